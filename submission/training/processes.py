"""The end of a process that trains together with others."""

import atexit
import logging
import os
import sys
from typing import NoReturn


def leave(code: int) -> NoReturn:
    """Ends the process with `code`.

    One of torchrun's ends without the interpreter's finalisation. There, rarely, one aborted after a training that went
    well (`terminate called without an active exception`: probably a thread of gloo's that wanted the interpreter's lock
    and was unwound through C++), and torchrun reported a failure.
    What is registered to be done at the end is done.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        atexit._run_exitfuncs()
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
