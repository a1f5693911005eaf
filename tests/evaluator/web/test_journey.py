"""What people do, from signing in to the board: the service, the queue, the line and Chromium are all real."""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evaluator.season.store import Store, digest
from tests.support import workers
from tests.support.browser import DESK, Visitor, chromium
from tests.support.serving import World
from tests.support.uploads import TEAMS, Line
from tests.support.workers import ROOT, SECONDS

OURS, THEIRS = TEAMS
MB = 10**6


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    with contextlib.ExitStack() as stack:

        def make(**given: Any) -> World:
            made = World(tmp_path, **given)
            stack.callback(made.end)
            return made

        yield make


@pytest.fixture
def visitor(driver: Any) -> Iterator[Callable[[str], Visitor]]:
    """Makes the session's browser somebody's, who has never been there."""

    def make(url: str) -> Visitor:
        made = Visitor(driver, url)
        made.look(DESK, "light")
        return made

    yield make
    driver.get("about:blank")
    driver.delete_all_cookies()


def choose_file(page: Visitor, path: Path) -> None:
    page.one("#zip").send_keys(str(path))
    page.click("#start")


def verdict(page: Visitor, submission: int = 1) -> str:
    return str(page.run(f"return document.querySelector('#run-{submission}-public .verdict')?.dataset.v ?? ''"))


@pytest.mark.slow
def test_a_large_zip_comes_through_whatever_breaks_and_ends_on_the_board(
    make_world: Callable[..., World], visitor: Callable[[str], Visitor]
) -> None:
    world = make_world()
    line = Line(world.service.port)
    page = visitor(line.url).sign_in(world.service.token(OURS))
    assert page.path == "/team" and page.text("h1") == OURS
    path = world.zip("решение «Ёж».zip", padding=200 * MB)
    size, sent = path.stat().st_size, digest(path)

    line.hold_at = 40 * MB
    choose_file(page, path)
    page.until(lambda: line.holds)
    page.until(lambda: 0 < float(page.one("#progress").get_attribute("value")) < 1)
    assert page.text("#stage") == "Sending…" and "of 200.0 MB" in page.text("#figures")
    assert not page.one("#start").is_displayed()
    page.click("#pause")
    assert (page.text("#stage"), page.text("#pause")) == ("Paused", "Go on")
    line.hold_at = 60 * MB
    page.click("#pause")
    page.until(lambda: line.holds)

    line.cut()
    page.until(lambda: "goes on by itself" in page.text("#stage"))
    line.hold_at = 100 * MB
    page.until(lambda: line.holds)  # it did

    world.service.kill()
    page.until(lambda: "goes on by itself" in page.text("#stage"))
    world.service.start()
    line.hold_at = 150 * MB
    page.until(lambda: line.holds)

    line.cut()
    line.hold_at = math.inf
    page.driver.refresh()  # somebody closes the tab and comes back
    page.until(lambda: path.name in page.text("#unfinished"))
    page.run("window.stays = true")
    assert page.log  # of the line; from here on nothing breaks
    choose_file(page, path)
    page.until(lambda: "Taken: submission 1" in page.text("#outcome"))
    # Nothing was sent again but what was under way at each of four breaks: buffers of two connections.
    assert size <= line.passed < size + 90 * MB

    assert page.until(lambda: verdict(page) == "OK") and page.text("#run-1-public .score") == "1.0000"
    assert page.text("#said") == "Submission 1: scored 1.0000."
    assert page.run("return window.stays") and page.log == []
    (state,) = world.ledger.states()
    assert (state.submission.digest, state.submission.bytes, state.submission.name) == (sent, size, path.name)
    assert digest(Store(world.season.folder).archive(sent)) == sent
    attempts = world.ledger.attempts(OURS)
    assert (attempts.valid, attempts.invalid, attempts.pending) == (1, 0, 0)

    page.click("#run-1-public .pick")
    page.click("#choice button")
    assert page.until(lambda: page.text("#done")) == "Your choice is entered."
    (choice,) = world.ledger.choices()
    assert (choice.team, choice.submissions) == (OURS, (1,))
    page.go("/")
    assert page.text(".board tr.is-own bdi") == OURS and page.text(".board tr.is-own .rank") == "1"
    line.close()


@pytest.mark.slow
def test_two_teams_in_two_browsers_compete(make_world: Callable[..., World], visitor: Callable[[str], Visitor]) -> None:
    world = make_world()
    with chromium() as other:
        ours = visitor(world.service.url).sign_in(world.token(OURS))
        theirs = Visitor(other, world.service.url).sign_in(world.token(THEIRS))
        choose_file(theirs, world.zip("наугад.zip", "наугад"))
        theirs.until(lambda: verdict(theirs, 1) == "OK")
        assert not ours.go("/team").all(".runs tr[id]") and "наугад" not in ours.run("return document.body.textContent")
        told = []
        for path in ("/submissions/1/report", "/submissions/1/log", "/submissions/999/report", "/submissions/999/log"):
            told.append(ours.go(path).text("main"))
        assert len(set(told)) == 1 and "there is no such page" in told[0]

        theirs.go("/").run("window.stays = true")
        assert ranks(theirs) == {THEIRS: "1"} and theirs.log == []
        world.service.kill()  # a page that is open finds the service again
        world.service.start()
        choose_file(ours.go("/team"), world.zip("решение.zip"))
        ours.until(lambda: verdict(ours, 2) == "OK")
        assert theirs.until(lambda: ranks(theirs).get(OURS)) == "1" and ranks(theirs) == {OURS: "1", THEIRS: "2"}
        assert theirs.text(".board tr.is-own bdi") == THEIRS and theirs.run("return window.stays")
        assert ranks(ours.go("/")) == {OURS: "1", THEIRS: "2"} and ours.text(".board tr.is-own bdi") == OURS
        assert not ours.all("#run-1-public") and not ours.go("/team").all("#run-1-public")
        assert all("net::ERR_" in line for line in theirs.log)


def ranks(page: Visitor) -> dict[str, str]:
    """The places of the teams that have one."""
    script = """
    const rows = [...document.querySelectorAll(".board tbody tr")];
    return rows.map(row => [row.querySelector("bdi")?.textContent, row.querySelector(".rank")?.textContent.trim()]);
    """
    return {team: rank for team, rank in page.run(script) if team and rank}


def test_all_of_it_by_keyboard_alone(make_world: Callable[..., World], visitor: Callable[[str], Visitor]) -> None:
    from selenium.webdriver.common.keys import Keys

    world = make_world()
    page = visitor(world.service.url).go("/")
    page.tab_to('a[href="/signin"]')
    page.press(Keys.ENTER)
    page.until(lambda: page.path == "/signin" and page.all("#token"))
    page.tab_to("#token").send_keys(world.token(OURS))
    page.press(Keys.ENTER)
    page.until(lambda: page.path == "/team" and page.all("#zip"))
    page.tab_to("#zip").send_keys(str(world.zip("решение.zip")))
    page.tab_to("#start")
    page.press(Keys.SPACE)
    page.until(lambda: "Taken: submission 1" in page.text("#outcome"))
    page.until(lambda: page.all("#run-1-public .pick input"))
    page.tab_to("#run-1-public .pick input")
    page.press(Keys.SPACE)
    page.until(lambda: page.text("#ticked") == "1 of 3 ticked")
    page.tab_to("#choice button")
    page.press(Keys.ENTER)
    page.until(lambda: page.focus.get_attribute("id") == "done")  # what was said is read first
    assert [choice.submissions for choice in world.ledger.choices()] == [(1,)]
    page.tab_to(".account button")
    page.press(Keys.ENTER)
    page.until(lambda: page.path == "/" and page.all('a[href="/signin"]'))
    assert "This page is for those who are signed in." in page.go("/team").text("#fault")


# --- by the command line ---


class Sender:
    """`send --wait --json` of a team, to a service's address."""

    def __init__(self, token: str, report: Path) -> None:
        self.report = report
        self.environment = os.environ | {"FBC_TOKEN": token, "NO_PROXY": "*"}

    def start(self, path: Path, url: str) -> "subprocess.Popen[str]":
        self.report.unlink(missing_ok=True)
        command = [sys.executable, "-m", "evaluator", "send", str(path), "--url", url, "--wait"]
        return subprocess.Popen(
            [*command, "--json", str(self.report)],
            cwd=ROOT,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def end(self, process: "subprocess.Popen[str]") -> tuple[int, str, dict[str, Any]]:
        """The exit code, what was said, and the document."""
        out, err = process.communicate(timeout=SECONDS)
        return process.returncode, out + err, json.loads(self.report.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_send_comes_through_and_ends_as_the_verdict_does(make_world: Callable[..., World]) -> None:
    world = make_world(valid_a_day="2")
    url = world.service.url
    sender = Sender(world.service.token(OURS), world.folder / "отчёт.json")
    code, said, found = sender.end(sender.start(world.zip("решение.zip"), url))
    assert code == 0, said
    assert (found["submission"], found["state"], found["verdict"], found["score"]) == (1, "done", "OK", 1.0)
    assert "score: 1.0000" in said and "attempts left today: " in said

    broken = world.zip("ломается.zip", code="raise SystemExit('кончились ёжики')")
    code, said, found = sender.end(sender.start(broken, url))
    assert code == 1, said
    assert (found["submission"], found["state"], found["verdict"]) == (2, "done", "EXIT")
    assert found["findings"] and "verdict: EXIT" in said
    assert all(finding["rule"] in said and finding["found"] in said for finding in found["findings"])

    line, large = Line(world.service.port), world.zip("большое.zip", padding=60 * MB)
    line.hold_at = 20 * MB
    process = sender.start(large, line.url)
    workers.wait(lambda: line.holds)
    process.send_signal(signal.SIGINT)  # Ctrl-C
    code, said, found = sender.end(process)
    assert code == 130 and "the same command goes on with it" in said and found["submission"] is None
    line.hold_at = 40 * MB
    process = sender.start(large, line.url)
    workers.wait(lambda: line.holds)
    world.service.kill()
    world.service.start()
    line.hold_at = math.inf
    code, said, found = sender.end(process)
    assert code == 0, said
    assert (found["submission"], found["state"], found["verdict"]) == (3, "done", "OK")
    assert "once more in" in said and line.passed < large.stat().st_size + 30 * MB
    line.close()
    assert digest(Store(world.season.folder).archive(digest(large))) == digest(large)

    code, said, found = sender.end(sender.start(world.zip("ещё.zip", "мимо"), url))
    assert code == 4, said
    assert (found["submission"], found["state"]) == (None, "refused") and "no attempt left" in found["reason"]
    code, said, found = sender.end(sender.start(large, url))  # is known: no attempt
    assert code == 0 and found["submission"] == 3 and found["is_new"] is False
    attempts = world.ledger.attempts(OURS)
    assert (attempts.valid, attempts.invalid, attempts.pending) == (2, 1, 0)
