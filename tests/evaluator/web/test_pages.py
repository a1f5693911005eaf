"""The service's pages in a real Chromium: what people see, do and are told, and that everybody can read them."""

import os
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import pytest

from evaluator.season import PUBLIC, board
from evaluator.season.accounts import Accounts
from evaluator.season.database import Database
from evaluator.season.ledger import Ledger, RunEnd
from evaluator.season.organize import Organizer
from evaluator.season.store import Store
from tests.support.browser import DESK, PHONE, Tab
from tests.support.demo_season import LOG, finding_of, report
from tests.support.season import TASK, enter, put_zip, scored, write_season
from tests.support.serving import Service
from tests.support.workers import SECONDS

HOSTILE = '"><img src=x onerror="window.hacked = 1"> {{ 7 * 7 }}'
WIDTHS = [(PHONE, "light"), (PHONE, "dark"), (DESK, "light"), (DESK, "dark")]
SLOW = 2 * 2**20  # bytes a second, so that an upload has a middle
A_DAY = 4  # attempts
_numbers = count(1)


@dataclass
class Door:
    """A served season, and its ledger beside it."""

    service: Service
    ledger: Ledger
    accounts: Accounts

    def team(self, *values: float) -> "Member":
        """A new team with results of these scores."""
        number = next(_numbers)
        name = f"«Ёжики» № {number} 🦔 <b>"
        self.ledger.add_team(name)
        submissions = []
        for value in values:
            sent = put_zip(self.ledger.season, f"{name} {value}", None)
            submissions.append(enter(self.ledger, name, sent, scored(value)))
        return Member(name, self.accounts.make(name, "Аня", "Судья")[1], submissions)

    def end(self, submission: int, end: RunEnd) -> None:
        """Have the run of a submission that waits begin, and end so."""
        job = self.ledger.claim("machine:1")
        assert job is not None and job.submission.id == submission
        assert self.ledger.finish(job, end) is not None

    def leave(self, submission: int) -> None:
        """What a run leaves."""
        (run,) = [state.run for state in self.ledger.states() if state.submission.id == submission]
        folder = Store(self.ledger.season.folder).run(run)
        folder.mkdir(parents=True)
        (folder / "log.txt").write_text(LOG, encoding="utf-8")
        (folder / "report.html").write_text(report("x", run, {TASK: 0.5}), encoding="utf-8")


@dataclass
class Member:
    """Somebody of a team, with a token."""

    team: str
    token: str
    submissions: list[int]


class Browser(Tab):
    """A person's browser at the service."""

    def __init__(self, driver: Any, service: Service) -> None:
        super().__init__(driver)
        self.service = service

    @property
    def log(self) -> list[str]:
        """Of what a test does before a page is done, Chromium says that it focuses nothing by itself then."""
        return [line for line in super().log if "Autofocus" not in line]

    def look(self, width: int = DESK, scheme: str = "light") -> None:
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        media = {"features": [{"name": name, "value": value} for name, value in features.items()]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    def open(self, path: str) -> "Browser":
        self.driver.get(self.service.url + path)
        return self

    def sign_in(self, member: Member) -> "Browser":
        self.open("/signin").one("#token").send_keys(member.token)
        self.one("main button").click()
        self.until(lambda: self.path == "/team")
        return self

    @property
    def path(self) -> str:
        return str(self.run("return location.pathname"))

    @property
    def text(self) -> str:
        return str(self.one("main").text)

    def until(self, condition: Callable[[], object]) -> Any:
        """Wait for it, on a page that changes meanwhile."""
        from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        wait = WebDriverWait(
            self.driver, SECONDS, ignored_exceptions=[StaleElementReferenceException, NoSuchElementException]
        )
        return wait.until(lambda _: condition())

    def says(self, text: str, where: str = "main") -> None:
        """Wait until it is to be seen."""
        from selenium.common.exceptions import TimeoutException

        try:
            self.until(lambda: text in self.one(where).text)
        except TimeoutException:
            raise AssertionError(f"{text!r} is not in: {self.one(where).text}") from None

    def type(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def faults(self) -> list[str]:
        """What axe-core finds that keeps people from reading the page, and what else is wrong with it."""
        axe = resources.files("axe_core_python") / "axe.min.js"
        self.driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
        try:
            self.run(axe.read_text(encoding="utf-8"))
            found = self.driver.execute_async_script(
                "const done = arguments[0]; axe.run().then(found => done(found.violations.map(each =>"
                " [each.impact, each.id, each.nodes.map(node => node.html)])))"
            )
        finally:
            self.driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": False})
        faults = [str(each) for each in found if each[0] in ("serious", "critical")]
        if self.run("return document.documentElement.scrollWidth > innerWidth"):
            faults.append("scrolls sideways")
        return faults + [line for line in self.log if "Password forms" not in line]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("door")
    days = {"start": "2020-01-01", "end": "2090-01-01", "choose_until": "2090-01-01"}
    season = write_season(folder / "season", "sqlite:///season.sqlite3", **days, valid_a_day=str(A_DAY))
    database = Database(season.url, season.folder)
    database.migrate()
    ledger = Ledger(season, database)
    ledger.add_team(HOSTILE)
    enter(ledger, HOSTILE, put_zip(season, HOSTILE, None), scored(0.5))
    service = Service(season, folder / "serve.log")
    try:
        yield Door(service.start(), ledger, Accounts(ledger))
    finally:
        service.end()
        database.engine.dispose()


@pytest.fixture
def browser(driver: Any, door: Door) -> Iterator[Browser]:
    browser = Browser(driver, door.service)
    driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    browser.look()
    browser.open("/rules").run("localStorage.clear(); localStorage.setItem('language', 'en')")
    browser.log.clear()
    yield browser
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    driver.execute_cdp_cmd("Network.disable", {})
    driver.get("about:blank")


def packed(path: Path, size: int = 0, **files: str) -> Path:
    """A good ZIP, with so many bytes that cannot be packed."""
    with zipfile.ZipFile(path, "w") as file:
        entry = '{"image": "example/image:1", "entrypoint": "python3 run.py"}'
        files = {"metadata.json": entry, "run.py": "print('Ёж')"} | files
        for name, text in files.items():
            file.writestr(name, text)
        file.writestr("weights.bin", os.urandom(size))
    return path


# --- coming in ---


def test_signing_in_and_out(door: Door, browser: Browser) -> None:
    member = door.team(0.25)
    browser.open("/team").says("This page is for those who are signed in")
    browser.one("#token").send_keys("fbc_нет такого")
    browser.one("main button").click()
    browser.says("This token is none, was revoked or has expired")
    assert browser.one("#token").get_attribute("aria-invalid") == "true"
    browser.one("#token").send_keys(f"  {member.token} ")  # as people copy it
    browser.one("main button").click()
    browser.says(member.team, "h1")
    assert browser.path == "/team" and member.team in browser.one(".account").text
    (cookie,) = browser.driver.get_cookies()
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict" and not cookie["secure"]
    assert browser.run("return document.cookie") == "" and browser.run("return document.documentElement.lang") == "en"
    browser.one(".account button").click()
    browser.until(lambda: browser.path == "/")
    assert "Sign in" in browser.one(".account").text and not browser.driver.get_cookies()
    assert httpx2.get(f"{door.service.url}/team", cookies={"fbc": cookie["value"]}, trust_env=False).status_code == 401
    lines = [line for line in browser.log if "Password forms" not in line]
    assert len(lines) == 2 and all("401" in line or "422" in line for line in lines)


def test_one_is_led_to_where_one_wanted_but_nowhere_else(door: Door) -> None:
    member = door.team()
    with httpx2.Client(base_url=door.service.url, trust_env=False, timeout=SECONDS) as client:
        page = client.get("/submissions/1/report")
        assert page.status_code == 401 and 'name="to" value="/submissions/1/report"' in page.text
        wanted = {"/submissions/1/report": "/submissions/1/report"}
        for to in ("", "//evil.example", "https://evil.example", "/\\evil.example", "team", "/a\nb"):
            wanted[to] = "/team"
        for to, led in wanted.items():
            answer = client.post("/signin", data={"token": member.token, "to": to})
            assert answer.status_code == 303 and answer.headers["Location"] == led, to
            client.cookies.clear()


def test_a_token_is_shown_once_and_an_invitation_works_once(door: Door, browser: Browser) -> None:
    member = door.team()
    browser.sign_in(member)
    browser.one("#name").send_keys("сервер <i>№ 1</i>")
    browser.one("#days").send_keys("30")
    browser.one("form[action='/team/tokens'] button").click()
    browser.says("Keep it now: it is not shown again")
    secret = browser.one("#secret").get_attribute("value")
    holder = door.accounts.holder(secret)
    assert holder is not None and holder.team is not None and holder.team.name == member.team
    assert holder.token.name == "сервер <i>№ 1</i>" and holder.token.expires_at is not None
    browser.one("main > p > a").click()
    browser.says("сервер <i>№ 1</i>", f"#token-{holder.token.id}")
    assert secret not in browser.driver.page_source
    browser.one(f"#token-{holder.token.id} button").click()
    browser.says("Revoked.", "#done")
    assert door.accounts.holder(secret) is None
    browser.one("#guest").send_keys("Борис")
    browser.one("form[action='/team/invitations'] button").click()
    browser.until(lambda: "/join/" in browser.one("#secret").get_attribute("value"))
    link = browser.one("#secret").get_attribute("value").removeprefix(door.service.url)
    browser.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    browser.open(link).says(member.team)
    browser.one("#name").send_keys("Борис Ёлкин")
    browser.one("main button").click()
    browser.says("Keep it now")
    joined = door.accounts.holder(browser.one("#secret").get_attribute("value"))
    assert joined is not None and joined.by == f"Борис Ёлкин, {member.team}"
    browser.one("main > p > a").click()
    browser.says(member.team, "h1")
    browser.open(link).says("this invitation was used")
    names = {token.name: token.ended_by for token in door.accounts.tokens(member.team)}
    assert names["сервер <i>№ 1</i>"] == f"Аня, {member.team}" and names["Борис"] == "Борис Ёлкин"


# --- the board ---


def test_the_board_marks_ones_own_row_and_renews_itself(door: Door, browser: Browser) -> None:
    member, other = door.team(0.125), door.team()
    browser.open("/")
    assert not browser.driver.find_elements("css selector", ".is-own")
    browser.sign_in(member).open("/")
    (row,) = browser.driver.find_elements("css selector", ".is-own")
    assert row.get_attribute("aria-current") == "true" and member.team in row.text and "0.1250" in row.text
    assert [link.text for link in browser.driver.find_elements("css selector", "nav a")][0] == "Team's page"
    browser.run("window.same = document.querySelector('.is-own')")
    browser.one("thead .name button").click()  # sorted by name, which stays so
    enter(door.ledger, other.team, put_zip(door.ledger.season, other.team, None), scored(0.99))
    id = door.ledger.team(other.team).id
    browser.until(lambda: "0.9900" in browser.one(f"#team-{id}").text)
    assert browser.run("return window.same === document.querySelector('.is-own')")
    names = [each.text for each in browser.driver.find_elements("css selector", "tbody bdi")]
    assert len(names) > 2 and names == browser.run(
        "return arguments[0].toSorted(new Intl.Collator('ru', {numeric: true}).compare)", names
    )
    assert browser.run("return window.hacked") is None and HOSTILE in names and not browser.log


def test_the_private_board_is_for_organizers_until_it_is_shown(door: Door) -> None:
    _, organizers = door.accounts.make(None, "Судья", "root")
    member = door.team(0.25)
    for path in ("/private", "/prizes"):
        with httpx2.Client(base_url=door.service.url, trust_env=False, timeout=SECONDS) as client:
            for headers, status in (
                ({}, 404),
                ({"Authorization": f"Bearer {member.token}"}, 404),
                ({"Authorization": f"Bearer {organizers}"}, 200),
            ):
                page = client.get(path, headers=headers)
                assert page.status_code == status and (f'href="{path}"' in page.text) == (status == 200)


def test_announcements_are_on_the_board_at_once(door: Door, browser: Browser) -> None:
    browser.open("/")
    change = Organizer(door.ledger, "Судья").announce(text := "Ёлки <b>до 6 утра</b> 🎄", "сроки")
    browser.says(text, ".told")
    assert not browser.log
    Organizer(door.ledger, "Судья").undo(change.id, "снято")
    browser.until(lambda: not browser.driver.find_elements("css selector", ".told"))


# --- a team's page ---


def test_a_zip_is_sent_run_and_chosen_and_all_of_it_is_seen_live(door: Door, browser: Browser, tmp_path: Path) -> None:
    member = door.team(0.25)
    browser.sign_in(member)
    browser.run("window.stays = true")
    browser.one("#zip").send_keys(str(packed(tmp_path / "посылка «ё» 🦔.zip", 3 * 2**20)))
    browser.one("#start").click()
    browser.says("Taken: submission", "#outcome")
    (id,) = {state.submission.id for state in door.ledger.states(member.team)} - set(member.submissions)
    browser.says("place in the queue: 1", f"#run-{id}-public")
    assert "посылка «ё» 🦔.zip" in browser.one(f"#run-{id}-public").text
    assert browser.one("#going").get_attribute("hidden") == "true" and not browser.one("#zip").get_attribute("value")
    job = door.ledger.claim("machine:1")
    assert job is not None and job.submission.id == id
    browser.says("running", f"#run-{id}-public .verdict")
    door.ledger.finish(job, scored(0.75))
    browser.says("scored", f"#run-{id}-public .verdict")
    assert "0.7500" in browser.one(f"#run-{id}-public .score").text and "0.7500" in browser.one(".hero .lead").text
    browser.until(lambda: f"Submission {id}: scored 0.7500." in browser.one("#said").get_attribute("textContent"))
    browser.one(f"#run-{id}-public .pick input").click()
    browser.says("1 of 3 ticked", "#ticked")
    assert browser.run("return window.stays") is True  # the page was not loaded anew
    browser.one("#choice button").click()
    browser.says("Your choice is entered", "#done")
    assert browser.one(f"#run-{id}-public .pick input").is_selected()
    (choice,) = [choice for choice in door.ledger.choices() if choice.team == member.team]
    assert choice.submissions == (id,) and not browser.log
    # The same ZIP is the same submission, and costs nothing.
    browser.one("#zip").send_keys(str(tmp_path / "посылка «ё» 🦔.zip"))
    browser.one("#start").click()
    browser.says(f"This ZIP was sent before: submission {id}", "#outcome")
    assert not browser.run("return Object.keys(localStorage).filter(key => key.startsWith('tus'))")


def test_a_bad_zip_says_at_once_what_to_mend(door: Door, browser: Browser, tmp_path: Path) -> None:
    member = door.team()
    browser.sign_in(member)
    broken = {"metadata.json": "{", "run.py": "<img src=x onerror='window.hacked = 1'>"}
    browser.one("#zip").send_keys(str(packed(tmp_path / "плохая.zip", **broken)))
    browser.one("#start").click()
    browser.says("The ZIP is not taken (BAD_METADATA); it cost no attempt", "#outcome")
    assert "metadata.json" in browser.one("#outcome .findings").text
    assert not door.ledger.states(member.team) and door.ledger.attempts(member.team).left == A_DAY
    assert browser.run("return window.hacked") is None and not browser.log


def test_an_upload_goes_on_where_a_killed_service_was(door: Door, browser: Browser, tmp_path: Path) -> None:
    member = door.team()
    browser.sign_in(member)
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": SLOW}
    browser.driver.execute_cdp_cmd("Network.enable", {})
    browser.driver.execute_cdp_cmd("Network.emulateNetworkConditions", slow)
    path = packed(tmp_path / "большая.zip", 48 * 2**20)
    browser.one("#zip").send_keys(str(path))
    browser.one("#start").click()

    def sent(least: float) -> bool:
        shown = re.match(r"([\d.]+) %", browser.one("#figures").text)
        return "Sending" in browser.one("#stage").text and shown is not None and float(shown[1]) > least

    browser.until(lambda: sent(20))
    door.service.kill()
    browser.says("sending goes on by itself", "#stage")
    door.service.start()
    browser.until(lambda: sent(30))
    browser.one("#pause").click()
    browser.says("Paused", "#stage")
    # The page is closed and opened again: the same file goes on.
    browser.driver.refresh()
    browser.says("Not sent to the end: большая.zip", "#unfinished")
    kept = browser.run("return Object.entries(localStorage).find(([key]) => key.startsWith('tus'))[1]")
    browser.driver.execute_cdp_cmd("Network.emulateNetworkConditions", slow | {"uploadThroughput": -1})
    browser.one("#zip").send_keys(str(path))
    browser.one("#start").click()
    browser.says("Taken: submission", "#outcome")
    (state,) = door.ledger.states(member.team)
    with Store(door.ledger.season.folder).open(state.submission.digest) as file:
        assert file.read() == path.read_bytes()
    assert re.search(r"/api/v1/uploads/\w+", kept) and browser.one("#unfinished").get_attribute("hidden") == "true"
    door.ledger.cancel(state.submission.id, PUBLIC, "проба")


def test_what_waits_is_taken_back_and_what_cannot_be_is_told(door: Door, browser: Browser) -> None:
    member = door.team(0.5)
    sent = put_zip(door.ledger.season, f"{member.team} ждёт", None)
    submission, _ = door.ledger.submit(member.team, sent)
    browser.sign_in(member)
    browser.one(f"#run-{submission.id}-public .inline button").click()
    browser.says("The submission is cancelled", "#done")
    browser.says("cancelled", f"#run-{submission.id}-public .verdict")
    assert door.ledger.attempts(member.team).left == A_DAY - 1  # there is one with a result
    (event,) = [event for event in door.ledger.history(submission.id) if event.kind == "cancelled"]
    assert event.detail["by"] == f"Аня, {member.team}"
    # What another browser of theirs still shows.
    browser.run("document.querySelector('.pick input').value = '999999'")
    browser.one(".pick input").click()
    browser.one("#choice button").click()
    browser.says("The rules do not allow this", "h1")
    browser.says("999999")
    browser.one("main > p > a").click()
    browser.says(member.team, "h1")


def test_a_team_calls_itself_otherwise(door: Door, browser: Browser) -> None:
    member = door.team(0.5)
    browser.sign_in(member)
    field = browser.one("#team-name")
    field.clear()
    field.send_keys(new := f"{member.team} «Ё» 2")
    browser.one("form[action='/team/name'] button").click()
    browser.says("The team has its new name", "#done")
    browser.says(new, "h1")
    assert door.ledger.changes()[-1].by == f"Аня, {member.team}" and door.ledger.team(new).name == new
    said = {"Authorization": f"Bearer {member.token}"}
    with httpx2.Client(base_url=door.service.url, headers=said, trust_env=False, timeout=SECONDS) as client:
        assert client.put("/api/v1/name", json={"name": f"{new} 3"}).json() == {"team": f"{new} 3"}
        assert client.put("/api/v1/name", json={"name": "\u202e"}).status_code == 400


def test_as_many_are_ticked_as_the_rules_allow(door: Door, browser: Browser) -> None:
    member = door.team(0.1, 0.2, 0.3, 0.4)
    browser.sign_in(member).says("No attempts are left today", "#closed")
    assert not browser.driver.find_elements("css selector", "#send")
    *boxes, first = browser.driver.find_elements("css selector", ".pick input")  # the newest are above
    for box in boxes:
        box.click()
    browser.says("3 of 3 ticked", "#ticked")
    assert not first.is_enabled()
    boxes[0].click()
    first.click()
    browser.one("#choice button").click()
    browser.says("Your choice is entered", "#done")
    finals = board.finals(door.ledger.results(PUBLIC), door.ledger.choices(), door.ledger.season.chosen)
    assert finals[member.team] == tuple(member.submissions[:3])


def test_reports_and_logs_are_the_teams_and_reports_run_apart(door: Door, browser: Browser) -> None:
    member, other = door.team(0.5), door.team(0.5)
    for submission in (*member.submissions, *other.submissions):
        door.leave(submission)
    (own,), (theirs,) = member.submissions, other.submissions
    browser.sign_in(member)
    addresses = [link.get_attribute("href") for link in browser.driver.find_elements("css selector", ".todo a")]
    assert addresses == [f"{door.service.url}/submissions/{own}/{what}" for what in ("report", "log")]
    browser.open(f"/submissions/{own}/report")
    assert browser.run("return origin") == "null"  # so it reaches neither cookies nor pages
    browser.open(f"/submissions/{own}/log")
    assert browser.one("body").text == LOG
    for number in (theirs, 999_999):
        for what in ("report", "log", "report?set=private"):
            browser.open(f"/submissions/{number}/{what}").says("there is no such page")
    assert finding_of("x") not in browser.driver.page_source


def test_without_events_a_page_asks_every_so_often(door: Door, browser: Browser) -> None:
    member = door.team(0.25)
    browser.driver.execute_cdp_cmd("Network.enable", {})
    browser.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/team/live"]})
    browser.sign_in(member)
    id = enter(door.ledger, member.team, put_zip(door.ledger.season, f"{member.team} 2", None), scored(0.875))
    browser.until(lambda: browser.driver.find_elements("css selector", f"#run-{id}-public"))
    browser.says("0.8750", f"#run-{id}-public")


def test_all_but_sending_works_without_scripts(door: Door, browser: Browser) -> None:
    member = door.team(0.5, 0.25)
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.open("/signin").one("#token").send_keys(member.token)
    browser.one("main button").click()
    browser.says(member.team, "h1")
    assert "python -m evaluator send" in browser.one("noscript").text
    browser.driver.find_elements("css selector", ".pick input")[1].click()
    browser.one("#choice button").click()
    browser.says("Выбор записан", "#done")
    browser.one("label[for=en]").click()
    assert "Your choice is entered" in browser.one("#done").text
    (choice,) = [choice for choice in door.ledger.choices() if choice.team == member.team]
    assert choice.submissions == (member.submissions[0],)
    browser.one(".account button").click()
    browser.says("Войти", ".account")


# --- for everybody ---


def test_everything_is_done_by_keyboard_alone(door: Door, browser: Browser, tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    def to(selector: str) -> None:
        """Go on by the Tab key, to what is seen to have the focus."""
        for _ in range(120):
            browser.type(Keys.TAB)
            if browser.run("return document.activeElement.matches(arguments[0])", selector):
                outline = browser.run(
                    "const e = document.activeElement, of = e => getComputedStyle(e).outlineStyle;"
                    "return of(e) !== 'none' || (e.nextElementSibling && of(e.nextElementSibling) !== 'none')"
                )
                assert outline, selector
                return
        raise AssertionError(f"{selector} is not reached")

    member = door.team(0.5)
    browser.open("/")
    browser.type(Keys.TAB)
    assert browser.run("return document.activeElement.className") == "skip"
    to(".account a")
    browser.type(Keys.ENTER)
    browser.until(lambda: browser.path == "/signin")
    assert browser.run("return document.activeElement.id") == "token"
    browser.type(member.token, Keys.ENTER)
    browser.until(lambda: browser.path == "/team")
    to("#en")
    browser.type(Keys.ARROW_LEFT)
    assert browser.run("return document.documentElement.lang") == "ru"
    browser.type(Keys.ARROW_RIGHT)
    to("#zip")
    browser.one("#zip").send_keys(str(packed(tmp_path / "с клавиатуры.zip", 1000)))  # the system's own dialogue
    to("#start")
    browser.type(Keys.ENTER)
    browser.says("Taken: submission", "#outcome")
    waiting = max(state.submission.id for state in door.ledger.states(member.team))
    browser.until(lambda: browser.driver.find_elements("css selector", f"#run-{waiting}-public .inline button"))
    to(f"#run-{waiting}-public .inline button")
    browser.type(Keys.ENTER)
    browser.says("The submission is cancelled", "#done")
    to(".pick input")
    browser.type(Keys.SPACE)
    to("#choice button")
    browser.type(Keys.ENTER)
    browser.says("Your choice is entered", "#done")
    to("form[action='/signout'] button")
    browser.type(Keys.ENTER)
    browser.until(lambda: browser.path == "/")


@pytest.fixture(scope="module")
def lively(door: Door) -> Member:
    """A team of whose page everything is to be seen."""
    member = door.team(0.75, 0.25)
    for submission in member.submissions:
        door.leave(submission)
    finding = {"rule": "output-missing", "where": "task 5", "found": "3 ids", "allowed": "each", "fix": "write all"}
    Organizer(door.ledger, "Судья").announce("Приём решений открыт", "начало")
    end = RunEnd("BAD_OUTPUT", "team", detail={"findings": [finding], "fix": "mend the output", "seconds": 61.0})
    enter(door.ledger, member.team, put_zip(door.ledger.season, "плохой вывод", None), end)
    return member


@pytest.mark.parametrize(("width", "scheme"), WIDTHS)
def test_pages_can_be_read_by_everybody(door: Door, browser: Browser, lively: Member, width: int, scheme: str) -> None:
    browser.look(width, scheme)
    faults = {}
    for path in ("/signin", "/", "/send", "/rules", "/nothing"):
        browser.open(path)
        faults[path] = [fault for fault in browser.faults() if not (path == "/nothing" and "404" in fault)]
    browser.sign_in(lively)
    id = door.ledger.team(lively.team).id
    for path in ("/team", "/", f"/teams/{id}", "/send"):
        browser.open(path)
        faults[f"{path}, signed in"] = browser.faults()
    browser.open("/team").one("#guest").send_keys("Вера")
    browser.one("form[action='/team/invitations'] button").click()
    browser.until(lambda: browser.driver.find_elements("css selector", "#secret"))
    faults["secret"] = browser.faults()
    link = browser.one("#secret").get_attribute("value").removeprefix(door.service.url)
    browser.open(link)
    faults["join"] = browser.faults()
    assert not any(faults.values()), faults


def test_files_are_kept_for_good_and_are_those_of_this_version(door: Door) -> None:
    with httpx2.Client(base_url=door.service.url, trust_env=False, timeout=SECONDS) as client:
        page = client.get("/")
        files = re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text)
        assert len(files) >= 5 and page.headers["Cache-Control"] == "no-store"
        for path in files:
            answer = client.get(path)
            assert answer.status_code == 200 and "immutable" in answer.headers["Cache-Control"]
            kind = "text/javascript" if path.endswith(".js") else "text/css"
            assert answer.headers["Content-Type"] == f"{kind}; charset=utf-8"
        digest = files[0].split("/")[2]
        for path in ("0" * 16 + "/site.js", f"{digest}/нет.js", f"{digest}/..%2Fapp.py"):
            assert client.get(f"/static/{path}").status_code == 404
