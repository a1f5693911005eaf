"""`python -m evaluator COMMAND`: the command line of `evaluator.cli`."""

import sys

from evaluator.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
