"""What axe-core finds wrong with a page in a browser."""

from pathlib import Path
from typing import Any

import axe_core_python

SCRIPT = next(Path(axe_core_python.__file__).parent.rglob("axe.min.js"))
SERIOUS = ("serious", "critical")


def faults(driver: Any) -> list[str]:
    """The serious ones, a line each with where it is."""
    # By the debugger: the page's policy lets no script in but its own.
    driver.execute_cdp_cmd("Runtime.evaluate", {"expression": SCRIPT.read_text(encoding="utf-8")})
    found = driver.execute_cdp_cmd(
        "Runtime.evaluate",
        {"expression": "axe.run().then(found => found.violations)", "awaitPromise": True, "returnByValue": True},
    )["result"]["value"]
    return [
        f"{each['id']}: {each['help']}: {node['target']}"
        for each in found
        if each["impact"] in SERIOUS
        for node in each["nodes"]
    ]
