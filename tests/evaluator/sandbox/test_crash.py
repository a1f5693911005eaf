"""The crashes that submissions have most, by programs that really crash so where the sandbox makes them."""

import io
from dataclasses import replace

import pytest

from evaluator.core import verdict
from evaluator.core.limits import RUN
from evaluator.data.dataset import read_data
from evaluator.sandbox import crash, launch, local
from tests.support.verdicts import raises_verdict

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
    "TimeoutError: [Errno 110] Connection timed out": crash.NETWORK,
    "OSError: [Errno 113] No route to host": crash.NETWORK,
    "requests.exceptions.ReadTimeout: HTTPSConnectionPool(host='a', port=443): Read timed out.": crash.NETWORK,
    "requests.exceptions.SSLError: HTTPSConnectionPool(host='a', port=443)": crash.NETWORK,
    "requests.exceptions.ProxyError": crash.NETWORK,
    "aiohttp.client_exceptions.ClientConnectorError: Cannot connect to host a:443 ssl:default": crash.NETWORK,
    "wget: unable to resolve host address 'a'": crash.NETWORK,
    "OSError: Can't load tokenizer for 'a/b'. If you were trying to load it from 'https://huggingface.co/models', make":
        crash.NETWORK,
    "OSError: a/b is not a local folder and no identifier listed on 'https://huggingface.co/models'": crash.NETWORK,
    "ValueError: Connection error, and we cannot find the requested files in the cached path.": crash.NETWORK,
    "ERROR: No matching distribution found for einops": crash.NETWORK,
    "RuntimeError: cuDNN error: CUDNN_STATUS_ALLOC_FAILED": crash.DEVICE_MEMORY,
    "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes": crash.DEVICE_MEMORY,
    "tensorflow.python.framework.errors_impl.ResourceExhaustedError: OOM when allocating": crash.DEVICE_MEMORY,
    "cupy_backends.cuda.api.runtime.CUDARuntimeError: cudaErrorMemoryAllocation: out of memory": crash.DEVICE_MEMORY,
    "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\nAborted": crash.MEMORY,
    "RuntimeError: [enforce fail] . DefaultCPUAllocator: not enough memory: you tried to allocate 1": crash.MEMORY,
    "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 1. TiB": crash.MEMORY,
    "IsADirectoryError: [Errno 21] Is a directory: 'output'": crash.MISSING_FILE,
    "sh: 0: cannot open run.sh: No such file": crash.MISSING_FILE,
    "RuntimeError: Parent directory output/a does not exist.": crash.MISSING_FILE,
    "sqlite3.OperationalError: attempt to write a readonly database": crash.READ_ONLY,
    "importlib.metadata.PackageNotFoundError: No package metadata was found for tqdm": crash.MISSING_MODULE,
    "pkg_resources.DistributionNotFound: The 'tqdm' distribution was not found": crash.MISSING_MODULE,
    "/usr/bin/python3: No module named tqdm": crash.MISSING_MODULE,
    "OSError: libcudart.so.12: cannot open shared object file: No such file or directory": crash.MISSING_MODULE,
    "KeyError: 'No module named'": "",
    "RuntimeError: size mismatch for a.ImportError": "",
    "ValueError: not among the answers: PermissionError": "",
    "TypeError: 'Connection refused' is no number": "",
    "TimeoutError": "",
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
        with raises_verdict(verdict.EXIT) as caught:
            launch.judge(outcome, limits, space.log, private)
    error = caught.value
    assert error.verdict.fix == error.findings[0].fix == error.to_json()["fix"]
    if private:
        assert "no_such_module" not in str(error)
        fix = {"lacks the module no_such_module": crash.MISSING_MODULE, crash.NETWORK: verdict.EXIT.fix}.get(fix, fix)
    assert fix in error.verdict.fix
