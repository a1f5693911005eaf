"""Docker for the tests marked `docker`: `engine`, `base_image` and `runtime_image`, shared by all workers.

Where no engine can be had these tests are skipped and say why; with EXPECT_DOCKER=1, as .ci/run sets it, they fail.

At the end stand the reasons for which tests were skipped, and a table of what tests/hostile ran. Both are printed from
here, as pytest-xdist's main process, which collects no tests, loads no other conftest.py.
"""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

# A shell starts jobs in a script's background with SIGINT ignored, and what the tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
#: Models of tests are small, and several processes share the CPUs: threads that wait for each other only cost time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
#: Without a GPU Triton's kernels are run by its interpreter, which must be chosen before Triton is imported.
if not os.path.exists("/dev/nvidiactl"):
    os.environ.setdefault("TRITON_INTERPRET", "1")

import docker
import pytest

from tests.support import engine as docker_engine
from tests.support.engine import EngineUnavailable


def _unavailable(reason: EngineUnavailable) -> None:
    if os.environ.get("EXPECT_DOCKER") == "1":
        pytest.fail(f"EXPECT_DOCKER=1, but {reason}", pytrace=False)
    pytest.skip(str(reason))


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """A client of an engine that runs; DOCKER_HOST names it to everything that the tests start."""
    with ExitStack() as stack:
        try:
            host = stack.enter_context(docker_engine.engine())
        except EngineUnavailable as reason:
            _unavailable(reason)
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("DOCKER_HOST", host)
        client = docker.from_env(timeout=600)
        stack.callback(client.close)
        yield client


@pytest.fixture(scope="session")
def base_image(engine: docker.DockerClient) -> str:
    """The name of a small image with Python 3.11 as /usr/bin/python3."""
    try:
        return docker_engine.base_image(engine)
    except EngineUnavailable as reason:
        _unavailable(reason)
        raise


@pytest.fixture(scope="session")
def runtime_image(engine: docker.DockerClient) -> str:
    """The name of the image that docker/Dockerfile makes for machines without a GPU."""
    try:
        return docker_engine.runtime_image(engine, os.environ["DOCKER_HOST"])
    except EngineUnavailable as reason:
        _unavailable(reason)
        raise


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else str(report.longrepr)
        for report in terminalreporter.getreports("skipped")
    )
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"skipped {count}: {reason}")
    reports = [report for state in ("passed", "failed") for report in terminalreporter.getreports(state)]
    rows = sorted(tuple(value) for report in reports for key, value in report.user_properties if key == "hostile")
    if not rows:
        return
    terminalreporter.section("hostile submissions")
    terminalreporter.write_line(f"{'case':<44} {'runner':<6}  {'expected':<12} {'found':<12} {'seconds':>7}")
    for name, runner, expected, found, seconds in rows:
        line = f"{name:<44} {runner:<6}  {expected:<12} {found:<12} {seconds:>7.1f}"
        terminalreporter.write_line(line, red=found != expected)
    right = sum(found == expected for _, _, expected, found, _ in rows)
    terminalreporter.write_line(f"{right} of {len(rows)} runs of {len({row[0] for row in rows})} cases as expected")


@pytest.fixture(autouse=True)
def _docker_marker(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("docker"):
        request.getfixturevalue("engine")
