"""Whose fault it is that an engine makes or starts no container: a table of what engines answer. Few of these answers
can be had from one engine on one machine, so here they are quoted; test_sandbox_docker.py asks a real one.
"""

import io

import docker
import pytest
import requests

from evaluator.core.errors import EvaluatorError, SubmissionError
from evaluator.core.limits import RUN
from evaluator.core.verdict import BAD_IMAGE
from evaluator.sandbox import docker as sandbox
from evaluator.sandbox.base import Workspace

RUNC = "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: "
MOUNT = f'{RUNC}error during container init: error mounting "/var/lib/docker/volumes/a" to rootfs at "/work/input": '
OURS = [
    (400, 'invalid mount config for type "bind": bind source path does not exist: /tmp/fbc2-evaluator-run-a/input'),
    (400, "Minimum memory limit allowed is 6MB"),
    (400, "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"),
    (400, "Unknown runtime specified nvidia"),
    (400, "You should always set the Memory limit when using Memoryswap limit, see usage"),
    (400, 'error looking up logging plugin json-file: plugin "json-file" not found'),
    (403, "authorization denied by plugin opa: not allowed"),
    (404, "No such image: sha256:00"),
    (404, 'create x: error looking up volume plugin local: plugin "local" not found'),
    (409, 'Conflict. The container name "/x" is already in use by container'),
    (429, "too many requests"),
    (500, 'could not select device driver "" with capabilities: [[gpu]]'),
    (500, "no space left on device"),
    (500, "mkdir /var/lib/docker/overlay2/a: no space left on device"),
    (500, f"{MOUNT}no such file or directory: unknown"),
    (500, f"{MOUNT}permission denied: unknown"),
    (500, f"{MOUNT}no space left on device: unknown"),
    (400, f'{RUNC}exec: "docker-init": executable file not found in $PATH: unknown'),
    (400, f'{RUNC}error running hook #0: exec: "nvidia-container-runtime-hook": executable file not found in $PATH'),
    (500, "nvidia-container-cli: initialization error: nvml error: driver not loaded: unknown"),
    (500, f"{RUNC}unable to apply cgroup configuration: mkdir /sys/fs/cgroup/memory/docker/a: cannot allocate memory"),
    (500, 'exec: "runc": executable file not found in $PATH'),
]
THE_IMAGES = [
    (500, f"{MOUNT}not a directory: unknown: Are you trying to mount a directory onto a file (or vice-versa)?"),
    (400, f"{MOUNT}mkdir /var/lib/docker/overlay2/a/merged/work: read-only file system: unknown"),
    (500, f"{MOUNT}SecureJoin /var/lib/docker/a/merged/work: too many levels of symbolic links: unknown"),
    (500, f'{MOUNT}"/var/lib/docker/a/merged/proc" cannot be mounted because it is inside /proc: unknown'),
    (500, "mount /tmp/a:/var/lib/docker/overlay2/a/merged/work/input, flags: 0x5001: not a directory"),
    (400, "Cannot mkdir: /work/submission is not a directory"),
    (400, f'{RUNC}exec: "/sbin/docker-init": stat /sbin/docker-init: no such file or directory: unknown'),
    (400, f'{RUNC}exec: "sleep": executable file not found in $PATH: unknown'),
    (400, f'{RUNC}exec: "/bin/sleep": permission denied: unknown'),
    (500, f"{RUNC}unable to setup user: stat /dev/null: no such file or directory: unknown"),
    (500, "source /var/lib/docker/overlay2/a/merged/etc/passwd is not directory"),
    (500, "cannot mount volume over existing file, file exists /var/lib/docker/overlay2/a/merged/etc/passwd"),
    (500, "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=13.0, please update your driver"),
]


CASES = [(*answer, "ours") for answer in OURS] + [(*answer, "team") for answer in THE_IMAGES]


@pytest.mark.parametrize(("status", "answer", "fault"), CASES)
def test_whose_fault_an_answer_is(status: int, answer: str, fault: str) -> None:
    response = requests.Response()
    response.status_code = status
    error = sandbox._refusal(docker.errors.APIError("refused", response, answer))
    assert type(error) is (SubmissionError if fault == "team" else sandbox._EngineError) and answer in str(error)
    assert not isinstance(error, SubmissionError) or error.verdict is BAD_IMAGE


@pytest.mark.parametrize("failures", [1, 2, 99])
def test_a_run_waits_before_it_tries_again(failures, tmp_path, monkeypatch):
    waits, tries = [], []

    class FailingRun(sandbox._Run):
        def __init__(self, *_: object) -> None:
            self._started = False
            tries.append(len(waits))

        def outcome(self) -> str:
            if len(tries) <= failures:
                raise sandbox._EngineError("no answer")
            return "done"

    monkeypatch.setattr(sandbox, "_connect", lambda: None)
    monkeypatch.setattr(sandbox, "sweep", lambda client: None)
    monkeypatch.setattr(sandbox, "_image", lambda *_: {"Config": {}})
    monkeypatch.setattr(sandbox, "_Run", FailingRun)
    monkeypatch.setattr(sandbox.time, "sleep", waits.append)
    space = Workspace(tmp_path, tmp_path / "aside", tmp_path / "data")
    space.submission.mkdir(parents=True)
    runner = sandbox.DockerRunner()
    if failures < sandbox.ATTEMPTS:
        assert runner.run(space, ["x"], "image", RUN, io.StringIO()) == "done"
    else:
        with pytest.raises(EvaluatorError, match="the Docker engine failed 3 times: no answer") as caught:
            runner.run(space, ["x"], "image", RUN, io.StringIO())
        assert "no answer" in str(caught.value.without_contents())  # by then no submission had seen anything
    assert waits == [sandbox.RETRY_SECONDS] * min(failures, sandbox.ATTEMPTS - 1)
    assert tries == list(range(len(waits) + 1))  # one wait before each further try


def test_what_an_engine_says_of_a_submission_that_was_started_is_not_shown_where_data_are_hidden(tmp_path):
    space = Workspace(tmp_path, tmp_path / "aside", tmp_path / "data")
    run = sandbox._Run(None, space, ["x"], {}, RUN, io.StringIO())
    run._started = True
    error = run.failure("the Docker engine failed 3 times", "lstat output/secret: no such file")
    assert "output/secret" in str(error)
    bare = str(error.without_contents())
    assert "the Docker engine failed 3 times after the submission was started" in bare and "secret" not in bare
