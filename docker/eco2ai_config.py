"""Gives eco2AI a settings file that it can write.

eco2AI keeps its settings in config.txt inside its own package and reads it on construction, before it ever writes it.
In a root file system that is read-only the image makes that name a link to `CONFIG`, which has to exist by then: hence
this module, which Python runs at each start (eco2ai_config.pth). A /tmp that cannot be written is left to eco2AI's
own error.
"""

import contextlib

CONFIG = "/tmp/eco2ai-config.txt"

with contextlib.suppress(OSError), open(CONFIG, "x"):
    pass
