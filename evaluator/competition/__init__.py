"""What a competition asks, counts and awards."""

DEFAULT = "fbc2"  # the name of the one that is meant where none is named
