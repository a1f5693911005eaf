"""The crashes that submissions have most, by programs that really crash so where the sandbox makes them."""

import io
from dataclasses import replace

import pytest

from evaluator import crash, launch, verdict
from evaluator.contract import read_data
from evaluator.errors import ExitError
from evaluator.limits import RUN
from evaluator.sandbox import local

LOGS = {
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.": crash.DEVICE_MEMORY,
    "RuntimeError: CUDA error: out of memory": crash.DEVICE_MEMORY,
    "MemoryError": crash.MEMORY,
    "OSError: [Errno 30] Read-only file system: 'cache'": crash.READ_ONLY,
    "PermissionError: [Errno 13] Permission denied: '/opt/x'": crash.READ_ONLY,
    "FileNotFoundError: [Errno 2] No such file or directory: 'input/input.json'": crash.MISSING_FILE,
    "python3: can't open file '/work/submission/x.py': [Errno 2] No such file or directory": crash.MISSING_FILE,
    "socket.gaierror: [Errno -3] Temporary failure in name resolution": crash.NETWORK,
    "urllib.error.URLError: <urlopen error [Errno 101] Network is unreachable>": crash.NETWORK,
    "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='huggingface.co'): Max retries exceeded":
        crash.NETWORK,
    "OSError: We couldn't connect to 'https://huggingface.co' to load the files\nSee the docs of offline mode at ...":
        crash.NETWORK,
    "huggingface_hub.errors.LocalEntryNotFoundError: An error happened": crash.NETWORK,
    "FileNotFoundError: no weights.bin\nDuring handling of this another exception occurred\nKeyError: 'a'": "",
    "ValueError: bad": "",
    "": "",
}  # fmt: skip


@pytest.mark.parametrize("log", LOGS)
def test_logs(log):
    assert crash.fix(log.splitlines()) == LOGS[log]


def test_a_missing_module_is_named():
    found = crash.fix(["Traceback (most recent call last):", "ModuleNotFoundError: No module named 'sklearn.svm'"])
    assert "the image lacks the module sklearn.svm: build an image" in found and "docker/README.md" in found


@pytest.mark.parametrize(
    ("code", "fix"),
    [
        ("import no_such_module", "lacks the module no_such_module"),
        ("open('input/input.json')", crash.MISSING_FILE),
        ("raise RuntimeError('нет')", verdict.EXIT.fix),
        ("import urllib.request; urllib.request.urlopen('http://no-such-host.invalid')", crash.NETWORK),
    ],
)
@pytest.mark.parametrize("private", [False, True])
def test_runs(data_folder, make_submission, code, fix, private):
    with launch.workspace(make_submission(code), read_data(data_folder)) as space:
        limits = replace(RUN, gpus=0)
        outcome = launch.execute(space, local.LocalRunner(), limits, io.StringIO())
        with pytest.raises(ExitError) as caught:
            launch.judge(outcome, limits, space.log, private)
    error = caught.value
    assert error.fix == error.findings[0].fix == error.to_json()["fix"]
    if private:
        assert "no_such_module" not in str(error)
        fix = {"lacks the module no_such_module": crash.MISSING_MODULE, crash.NETWORK: verdict.EXIT.fix}.get(fix, fix)
    assert fix in error.fix
