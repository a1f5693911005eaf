"""Every limit of the challenge (published) and of the evaluator (ours), in one place."""

# Published limits of the leaderboard.
TIME_LIMIT_SECONDS = 5 * 60 * 60
MAX_ARCHIVE_BYTES = 15 * 10**9
MAX_UNPACKED_BYTES = 15 * 10**9

# Ours: what the evaluator is willing to read from an untrusted folder.
MAX_ARCHIVE_ENTRIES = 100_000
MAX_JSON_BYTES = 100 * 10**6
MAX_JSON_ENTRIES = 10**6  # examples in one file, and entries of all examples together
MAX_TEXT_CHARACTERS = 20_000  # one predicted text; the metrics' time grows with its length
MAX_IMAGE_BYTES = 32 * 10**6
MAX_IMAGE_PIXELS = 4096 * 4096
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")

# Ours: how a run is ended and how much of its output is kept.
TERMINATE_GRACE_SECONDS = 5.0
MAX_LOG_BYTES = 64 * 10**6
