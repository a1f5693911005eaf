"""Without an engine the tests marked `docker` are skipped and say why; where one was expected, they fail."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("expected", "code", "outcome"), [("0", 0, "1 skipped"), ("1", 1, "1 error")])
def test_no_engine(tmp_path: Path, expected: str, code: int, outcome: str) -> None:
    host = f"unix://{tmp_path}/nobody.sock"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/docker/test_engine.py", "-k", "exit_code"],
        cwd=ROOT,
        env=os.environ | {"DOCKER_HOST": host, "EXPECT_DOCKER": expected},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, done.stdout
    assert outcome in done.stdout.splitlines()[-1]
    assert f"no engine answers at DOCKER_HOST={host}" in done.stdout
