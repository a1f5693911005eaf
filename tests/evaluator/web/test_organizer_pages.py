"""The organizers' pages: forms as browsers send them, and how they look and work in a real Chromium."""

import re
from collections.abc import Callable, Iterator
from html import unescape
from typing import Any

import httpx2
import pytest

from evaluator.season import PUBLIC, changes
from evaluator.web.organizer import FIELDS, TABS, WORDS
from evaluator.web.organizing import DEEDS
from tests.support import axe
from tests.support.browser import DESK, PHONE
from tests.support.organizer import CAT, HEDGEHOGS, WHO, WHY, Desk
from tests.support.season import archive, enter, failed, scored
from tests.support.workers import SECONDS

PAGES = [*(address for address, _, _ in TABS), "/organizer/teams/1", "/organizer/submissions/1"]


class Browser:
    """A browser without scripts, signed in as an organizer."""

    def __init__(self, desk: Desk) -> None:
        self.client = httpx2.Client(base_url=desk.url, timeout=SECONDS, trust_env=False, follow_redirects=True)
        self.page = self.client.post("/signin", data={"token": desk.token})
        assert self.page.url.path == "/organizer"

    def open(self, path: str) -> str:
        self.page = self.client.get(path)
        assert self.page.status_code == 200, self.page.text
        return self.text

    @property
    def text(self) -> str:
        """What the page says in English."""
        main = self.page.text.partition("<main")[2]
        russian = re.sub(r'<span class="ru" lang="ru">.*?</span>', "", main, flags=re.S)
        return " ".join(unescape(re.sub(r"<[^>]+>", " ", russian)).split())

    def fields(self, action: str) -> dict[str, str]:
        """What the first form for this says, as long as nobody changes anything in it."""
        forms = [form for form in re.findall(r"<form.*?</form>", self.page.text, re.S) if f'/do/{action}"' in form]
        said = {}
        for tag in re.findall(r'<input[^>]*name="[^>]*>', forms[0]):
            if 'type="file"' not in tag:
                name, value = re.search(r'name="([^"]*)"', tag), re.search(r'value="([^"]*)"', tag)
                assert name is not None and value is not None
                said[name[1]] = unescape(value[1])
        for name, options in re.findall(r'<select[^>]*name="([^"]*)">(.*?)</select>', forms[0], re.S):
            found = re.findall(r'<option(?: value="([^"]*)")?( selected)?>([^<]*)', options)
            chosen = next((each for each in found if each[1]), found[0])
            said[name] = chosen[0] or chosen[2]
        return said

    def send(self, action: str, status: int = 200, files: Any = None, **said: Any) -> str:
        """Fill in a form of the page that is open, and send it; the page that comes."""
        data = self.fields(action) | said
        self.page = self.client.post(f"/organizer/do/{action}", data=data, files=files)
        assert self.page.status_code == status, self.text
        return self.text


@pytest.fixture
def full(desk: Desk) -> Desk:
    """A season where something has happened."""
    ledger = desk.ledger
    enter(ledger, HEDGEHOGS, 1, failed("INFRA", "organizer"))
    enter(ledger, CAT, 2, scored(0.5))
    ledger.submit(HEDGEHOGS, archive(3))
    desk.do("teams/add", team="Команда <b> с «длинным» именем 🦔", members=["Аня"], contact="https://example.org/<i>")
    desk.do("announcements/add", text="Сервер <i>стоит</i> до 18:00")
    desk.do("test-sets/add", name="final", data="data/финал")
    desk.do("board/freeze")
    return desk


def test_every_deed_has_its_words_and_fields() -> None:
    assert WORDS.keys() == {deed.path for deed in DEEDS}
    assert {name for deed in DEEDS for name in deed.model_fields} <= FIELDS.keys()


def test_every_page_is_there_for_organizers_alone(full: Desk) -> None:
    browser = Browser(full)
    team = full.caller(full.accounts.make(CAT, "ноутбук", "root")[1])
    for path in PAGES:
        assert browser.open(path)
        assert "<b> с" not in browser.page.text and "<i>" not in browser.page.text
        assert full.caller(None).get(path).status_code == 401 and team.get(path).status_code == 403
    for path in ("/organizer/teams/99", "/organizer/submissions/99", "/organizer/nothing"):
        assert browser.client.get(path).status_code == 404
    assert "must be a day" in browser.open("/organizer/submissions?day=вчера")
    assert "no team" in browser.open("/organizer/submissions?team=Никто")


def test_a_button_asks_why_and_does_it_then(full: Desk) -> None:
    browser = Browser(full)
    browser.open("/organizer")
    before = full.ledger.version()
    assert "Why (for the record)" in browser.send("queue/retry") and full.ledger.version() == before
    assert "reason: Field required" in browser.send("queue/retry", 422, reason="  ")
    assert "must be a text of one line" in browser.send("queue/retry", 422, reason="две\nстроки")
    assert "Submission 1 (public) is queued again" in browser.send("queue/retry", reason=WHY)
    assert browser.page.url.path == "/organizer"
    last = full.ledger.history(1)[-1]
    assert (last.kind, last.detail["by"], last.detail["reason"]) == ("queued", WHO, WHY)
    assert "is queued again" not in browser.open("/organizer")  # told once
    assert WHY in browser.open("/organizer/submissions/1") and WHO in browser.text


def test_what_is_grave_is_asked_even_with_a_reason(full: Desk) -> None:
    browser = Browser(full)
    browser.open("/organizer/teams/2")
    asked = browser.send("teams/merge", into=HEDGEHOGS, reason=WHY)
    assert HEDGEHOGS in asked and "Its submissions, attempts and choice" in asked
    assert full.ledger.team(CAT).into is None
    told = browser.send("teams/merge")
    assert full.ledger.teams()[1].into == 1 and "merged into" in told
    change = full.ledger.changes()[-1]
    assert (change.kind, change.by, change.reason) == (changes.MERGED, WHO, WHY)
    browser.open("/organizer/changes")
    assert WHO in browser.text and browser.fields("changes/undo")["change"] == str(change.id)
    browser.send("changes/undo")
    browser.send("changes/undo", reason="не та команда")
    assert full.ledger.team(CAT).into is None and browser.page.url.path == "/organizer/changes"


def test_what_is_wrong_is_told_with_what_was_typed(full: Desk) -> None:
    browser = Browser(full)
    browser.open("/organizer/teams/2")
    before = full.ledger.version()
    told = browser.send("teams/rename", 409, name=HEDGEHOGS, reason=WHY)
    assert "It was not done" in told and "already" in told
    assert f'value="{HEDGEHOGS}"' in browser.page.text and f'value="{WHY}"' in browser.page.text
    assert full.ledger.version() == before
    browser.send("teams/rename", name="Кот и пёс", reason=WHY)
    assert full.ledger.teams()[1].name == "Кот и пёс" and browser.page.url.path == "/organizer/teams/2"
    browser.open("/organizer/rules")
    assert "must be a day not before" in browser.send("rules/deadlines", 409, end="2000-01-01", reason=WHY)
    assert "day" in browser.send("rules/deadlines", 422, end="никогда", reason=WHY)
    browser.send("rules/deadlines", end="2089-12-31", start="", choose_until="", reason=WHY)
    assert str(full.ledger.rules().end) == "2089-12-31"


def test_members_can_be_emptied_and_days_left_out(full: Desk) -> None:
    browser = Browser(full)
    browser.open("/organizer/teams/2")
    browser.send("teams/members", members="Аня, Борис", contact="@kot", reason=WHY)
    assert full.ledger.team(CAT).members == ("Аня", "Борис")
    browser.send("teams/members", members="", contact="@kot", reason=WHY)
    assert (full.ledger.team(CAT).members, full.ledger.team(CAT).contact) == ((), "@kot")
    browser.send("teams/extend", until="", attempts="2", day="", reason=WHY)
    assert full.ledger.attempts(CAT).valid_allowed == 102


def test_a_table_is_looked_at_before_it_is_imported(full: Desk) -> None:
    browser = Browser(full)
    teams = len(full.ledger.teams())

    def choose(content: bytes, status: int = 200) -> str:
        browser.open("/organizer/teams")
        return browser.send("teams/import", status, files={"table": ("команды.csv", content, "text/csv")}, reason=WHY)

    assert (
        "команды.csv line 2: team ''" in choose('team\n\n""\nСовы\n'.encode(), 400)
        or "команды.csv line" in browser.text
    )
    assert "is no UTF-8 text" in choose("team\nСовы\n".encode("cp1251"), 400)
    found = choose('team,members\nСовы,"Аня, Борис"\n'.encode())
    assert "adds 1 teams and changes 0" in found and len(full.ledger.teams()) == teams
    assert "1 teams were added" in browser.send("teams/import")
    assert full.ledger.team("Совы").members == ("Аня", "Борис")


def test_access_is_shown_once(full: Desk) -> None:
    browser = Browser(full)
    browser.open("/organizer/teams/2")
    browser.send("tokens/make", kind="token", name="сервер", days="3")
    (secret,) = re.findall(r'value="(fbc_[^"]+)"', browser.page.text)
    holder = full.accounts.holder(secret)
    assert holder is not None and holder.team is not None and holder.team.name == CAT and holder.token.by == WHO
    assert "сервер" in browser.open("/organizer/teams/2") and secret not in browser.page.text
    browser.send("tokens/revoke")
    browser.send("tokens/revoke", reason="потерян")
    assert full.accounts.holder(secret) is None and "Revoked" in browser.text
    browser.open("/organizer/access")
    browser.send("tokens/make", kind="invitation", name="Второй судья", days="")
    (link,) = re.findall(r'value="http[^"]*(/join/[^"]+)"', browser.page.text)
    assert full.caller(None).get(link).status_code == 200


def test_finals_are_asked_for_and_queued(full: Desk) -> None:
    browser = Browser(full)
    browser.open("/organizer/finals")
    browser.send("finals/queue")
    assert "choices are open" in browser.send("finals/queue", 409, reason=WHY)
    browser.open("/organizer/finals")
    assert "Queued on final: 2" in browser.send("queue/add", test_set="final", reason=WHY)
    assert "choices are open" in browser.open("/organizer/finals") or "still choosing" in browser.text


def test_a_forged_form_does_nothing(full: Desk) -> None:
    browser = Browser(full)
    before = full.ledger.version()
    for csrf in ("", "0" * 64):
        said = {"reason": WHY, "sure": "yes", "team": CAT, "csrf": csrf}
        assert browser.client.post("/organizer/do/teams/disqualify", data=said).status_code == 403
    assert full.ledger.version() == before
    browser.open("/organizer/teams")
    browser.send("teams/add", team="Совы", reason=WHY, back="//evil.example/organizer")
    assert browser.page.url.host == "127.0.0.1" and browser.page.url.path == "/organizer"


# --- in Chromium ---


def until(driver: Any, holds: Callable[[], bool]) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, SECONDS).until(lambda _: holds())


@pytest.fixture
def signed_in(full: Desk, driver: Any) -> Iterator[Any]:
    driver.get(f"{full.url}/signin")
    driver.find_element("css selector", "#token").send_keys(full.token)
    driver.find_element("css selector", "main form .button").click()
    until(driver, lambda: driver.current_url == f"{full.url}/organizer")
    yield driver
    driver.delete_all_cookies()
    driver.get("about:blank")  # the page that renews itself leaves the service in peace


@pytest.mark.parametrize(("width", "scheme"), [(DESK, "light"), (PHONE, "dark")])
def test_pages_can_be_read_by_everybody(full: Desk, signed_in: Any, width: int, scheme: str) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
    signed_in.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    signed_in.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    signed_in.get_log("browser")
    for path in PAGES:
        signed_in.get(f"{full.url}{path}")
        assert axe.faults(signed_in) == [], path
        across, there = signed_in.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert across <= there, path
    signed_in.get(f"{full.url}/organizer/teams/1")
    signed_in.find_element("css selector", "form[action$='teams/disqualify'] button").click()
    until(signed_in, lambda: str(signed_in.current_url).endswith("/do/teams/disqualify"))
    assert axe.faults(signed_in) == [] and signed_in.get_log("browser") == []


def test_a_failure_is_retried_by_keyboard_and_the_queue_renews_itself(full: Desk, signed_in: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    button = signed_in.find_element("css selector", "form[action$='queue/retry'] button")
    button.send_keys(Keys.ENTER)
    until(signed_in, lambda: str(signed_in.current_url).endswith("/do/queue/retry"))
    reason = signed_in.find_element("css selector", "#ask-reason")
    reason.send_keys(WHY.replace(" 🦔", "") + Keys.ENTER)
    until(signed_in, lambda: "done=" in signed_in.current_url)
    assert signed_in.find_element("css selector", "#done").is_displayed()
    assert signed_in.find_elements("css selector", "form[action$='queue/retry']") == []
    job = full.ledger.claim("gpu1:7")
    assert job is not None and job.test_set == PUBLIC
    until(signed_in, lambda: "gpu1:7" in signed_in.find_element("css selector", "main").text)
