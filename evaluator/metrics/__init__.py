"""The metrics of the challenge, one file each: pure functions, nothing built or loaded at import."""
