"""Every limit of the challenge (published) and of the evaluator (ours), in one place."""

# Published limits of the leaderboard.
TIME_LIMIT_SECONDS = 5 * 60 * 60
MAX_ARCHIVE_BYTES = 15 * 10**9
MAX_UNPACKED_BYTES = 15 * 10**9

# Ours: what the evaluator is willing to read from an untrusted folder.
MAX_ARCHIVE_ENTRIES = 100_000
MAX_JSON_BYTES = 100 * 10**6
MAX_JSON_DEPTH = 32  # of nested lists and objects; the contract needs 3
MAX_JSON_VALUES = 8 * 10**6  # lists, objects and commas: bounds the memory of parsing, with room for the entries below
MAX_JSON_DIGITS = 100  # characters of one number; Python's own limit of 4300 digits raises
MAX_JSON_ENTRIES = 10**6  # examples in one file, and entries of all examples together
MAX_TEXT_CHARACTERS = 20_000  # one predicted text; the metrics' time grows with its length
MAX_PATH_CHARACTERS = 1024
MAX_IMAGE_BYTES = 32 * 10**6
MAX_IMAGE_PIXELS = 4096 * 4096
MAX_IMAGE_RATIO = 100  # longer to shorter side; a metric that resizes the shorter side would grow such an image
MAX_JPEG_SCANS = 100  # a progressive JPEG has about 10, but each further one costs time for all pixels
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
MAX_FOLDER_IMAGE_BYTES = 15 * 10**9  # all scored images together
MAX_FOLDER_PIXELS = 5 * 10**9  # all scored images together, 15 GB decoded; 10 000 of 256 x 256 are 0.66 * 10^9

# Ours: how long decoding an untrusted image may take, and in how much memory. It happens in a process of its own.
DECODE_SECONDS = 20.0  # one image, by the clock; a JPEG of 4096 x 4096 with 99 scans takes two
FOLDER_DECODE_SECONDS = 30 * 60.0  # all images together
DECODER_MEMORY_BYTES = 2 * 2**30  # address space of the process

# Ours: how a run is ended and how much of its output is kept.
TERMINATE_GRACE_SECONDS = 5.0
MAX_LOG_BYTES = 64 * 10**6

# Ours: what per-id results are written as, by the file's name.
TABLE_FORMATS = (".csv", ".parquet")
