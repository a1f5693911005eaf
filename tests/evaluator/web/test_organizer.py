"""Everything that an organizer does over the web, over real HTTP: what is in the ledger then, who did it, and why."""

import csv
import fcntl
import io
import json
import re
import shutil
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from evaluator.season import PRIVATE, PUBLIC, actions, changes
from evaluator.season.config import Season
from evaluator.web.organizing import DEEDS
from tests.support.organizer import API, CAT, HEDGEHOGS, WHO, WHY, Desk, serving
from tests.support.season import TRUTH, enter, failed, put_zip, scored
from tests.support.workers import SECONDS

# --- what is done ---


def test_teams(desk: Desk) -> None:
    ledger = desk.ledger
    added = desk.do("teams/add", team="Лиса и К°", members=["Анна", "Борис"], contact="@lisa")
    assert (added["team"], added["members"], added["id"]) == ("Лиса и К°", "Анна, Борис", ledger.team("лиса и к°").id)
    entered = ledger.changes()[-1]
    assert (entered.team, entered.by, entered.reason) == (added["id"], WHO, WHY)

    assert desk.change("teams/rename", team="Лиса и К°", name="Лисы").kind == changes.RENAMED
    desk.change("teams/members", team="Лисы", members=["Вера"])
    fox = ledger.team("Лисы")
    assert (fox.members, fox.contact) == (("Вера",), "@lisa")
    desk.change("teams/extend", team="Лисы", until="2090-01-01")
    left = ledger.attempts("Лисы").left
    desk.change("teams/extend", team="Лисы", attempts=7)
    assert ledger.attempts("Лисы").valid_allowed == 107 and ledger.attempts("Лисы").left >= left
    for path, status in (
        ("teams/out-of-competition", "out of competition"),
        ("teams/disqualify", "disqualified"),
        ("teams/remove", "removed"),
    ):
        desk.change(path, team="Лисы")
        assert ledger.team("Лисы").status == status
        assert "already" in desk.refused(path, 409, team="Лисы")
        desk.change("teams/reinstate", team="Лисы")
        assert ledger.team("Лисы").status is None
    merged = desk.change("teams/merge", team="Лисы", into=CAT)
    assert ledger.teams()[-1].into == ledger.team(CAT).id
    desk.change("changes/undo", change=merged.id)
    assert ledger.team("Лисы").into is None
    rows = {row["team"]: row for row in desk.get("teams")}
    assert rows["Лисы"]["members"] == "Вера" and rows["Лисы"]["left"] is not None and len(rows) == 3


def test_a_table_of_teams_is_looked_at_first_and_comes_back_as_it_went_out(desk: Desk) -> None:
    table = 'team,members,contact\nСовы,"Аня, Борис",@sova\nкот «учёный»,Вера,\n'
    before = desk.ledger.changes()
    assert desk.do("teams/import", table=table) == {"added": 1, "changed": 1, "dry_run": True}
    assert desk.ledger.changes() == before and len(desk.ledger.teams()) == 2
    assert desk.do("teams/import", table=table, dry_run=False) == {"added": 1, "changed": 1, "dry_run": False}
    assert desk.ledger.team("Совы").members == ("Аня", "Борис") and desk.ledger.team(CAT).members == ("Вера",)
    assert {(change.by, change.reason) for change in desk.ledger.changes()} == {(WHO, WHY)}

    faulty = desk.ask("teams/import", table="team,contact\nСовы\nЁжики,\n\u200b,x\n", name="команды.csv", dry_run=False)
    reasons = faulty.json()["reasons"]
    assert faulty.status_code == 400 and [line.partition(":")[0] for line in reasons] == [
        "команды.csv line 2",
        "команды.csv line 4",
    ]
    assert "first line must name" in desk.refused("teams/import", 400, table="имя\nСовы\n")

    exported = desk.client.get(f"{API}/exports/teams.csv")
    assert exported.headers["content-disposition"] == 'attachment; filename="teams.csv"'
    assert desk.do("teams/import", table=exported.text, dry_run=False)["changed"] == 0


def test_submissions(desk: Desk) -> None:
    number = enter(desk.ledger, HEDGEHOGS, 1, scored(0.5))
    desk.change("submissions/withdraw", submission=number)
    assert desk.ledger.results(PUBLIC) == []
    (row,) = desk.get("submissions", withdrawn=True)
    assert row["withdrawn"] and row["public"] == "OK"
    desk.change("submissions/restore", submission=number)
    assert len(desk.ledger.results(PUBLIC)) == 1 and desk.get("submissions", withdrawn=True) == []
    desk.change("submissions/redate", submission=number, day="2022-10-05")
    (row,) = desk.get("submissions", team=HEDGEHOGS, state="OK")
    assert (row["day"], row["public_total"]) == ("2022-10-05", 0.5)
    assert desk.get("submissions", day="2022-10-06") == []


def test_the_queue(desk: Desk) -> None:
    ledger = desk.ledger
    infra = failed("INFRA", "organizer")
    number = enter(ledger, HEDGEHOGS, 1, infra)
    other = enter(ledger, CAT, 2, scored(0.4))
    (waiting,) = desk.get("queue")
    assert (waiting["submission"], waiting["state"], waiting["fault"]) == (number, "done", "organizer")
    assert desk.do("queue/retry", submission=number)["state"] == "queued"
    last = ledger.history(number)[-1]
    assert (last.kind, last.detail["by"], last.detail["reason"]) == ("queued", WHO, WHY)
    assert desk.do("queue/cancel", submission=number)["state"] == "cancelled"
    last = ledger.history(number)[-1]
    assert (last.kind, last.detail["by"], last.detail["reason"]) == ("cancelled", WHO, WHY)
    assert desk.get("queue") == []

    desk.change("test-sets/add", name="final", data="data/финал")
    assert [row["test_set"] for row in desk.get("test-sets")] == [PUBLIC, PRIVATE, "final"]
    assert desk.do("queue/add", test_set="final", submissions=[other]) == {"test_set": "final", "queued": [other]}
    assert desk.do("queue/add", test_set="final", chosen=True)["queued"] == []
    assert ledger.history(other)[-1].detail["by"] == WHO
    runs = desk.get("runs", set="final")
    assert [row["state"] for row in runs] == ["queued"] and len(desk.get("runs")) == 4
    assert [row["state"] for row in desk.get(f"submissions/{number}/events")][-1] == "cancelled"
    assert {row["submission"] for row in desk.get("events", team=CAT)} == {other}
    assert desk.get("runs", since="2089-01-01T00:00:00") == []
    assert [machine["machine"] for machine in desk.get("machines")] == ["worker"]
    desk.change("test-sets/withdraw", name="final")
    assert "final" not in ledger.rules().data
    log = desk.client.get(f"{API}/runs/{runs[0]['run']}/log")
    assert log.status_code == 200 and log.headers["content-type"].startswith("text/plain")


def test_rules_and_the_board(desk: Desk) -> None:
    ledger = desk.ledger
    desk.change("rules/deadlines", end="2089-12-31")
    desk.change("rules/attempts", valid_a_day=4, chosen=2)
    rules = ledger.rules()
    assert (rules.end, rules.valid_a_day, rules.chosen) == (date(2089, 12, 31), 4, 2)
    enter(ledger, HEDGEHOGS, 1, scored(0.5))
    desk.change("board/freeze")
    enter(ledger, HEDGEHOGS, 2, scored(0.9))
    shown, live = desk.get("board"), desk.get("board", live=True)
    assert (shown["lines"][0]["total"], live["lines"][0]["total"]) == (0.5, 0.9) and shown["frozen_at"]
    desk.change("board/unfreeze")
    assert ledger.frozen_at is None
    desk.change("board/freeze", at="2022-10-05T18:00")  # of the season's zone
    assert ledger.frozen_at is not None and ledger.frozen_at.astimezone(rules.zone).hour == 18
    said = desk.change("announcements/add", text="Сервер стоит до 18:00, подробнее на https://example.org/ё")
    assert [each.text for each in ledger.snapshot().announcements] == [said.detail["text"]]
    desk.change("changes/undo", change=said.id)
    assert not ledger.snapshot().announcements
    rows = desk.get("changes")
    assert [row["undone_by"] for row in rows if row["id"] == said.id] == [rows[-1]["id"]]
    assert "undone already" in desk.refused("changes/undo", 409, change=said.id)


def test_finals_and_prizes(desk: Desk) -> None:
    ledger = desk.ledger
    enter(ledger, HEDGEHOGS, put_zip(ledger.season, 1, 0.5), scored(0.5))
    assert "choices are open" in desk.refused("finals/queue", 409)
    assert "choices are open" in desk.refused("board/show-private", 409)
    past = (date.today() - timedelta(days=3)).isoformat()
    desk.change("rules/deadlines", end=past, choose_until=past)
    assert desk.do("finals/queue") == {"queued": 1, "pending": 0, "failed": 0}
    (run,) = [state for state in ledger.states() if state.test_set == PRIVATE]
    assert (run.kind, run.detail["by"], run.detail["reason"]) == ("queued", WHO, WHY)
    job = ledger.claim("gpu1:1")
    assert job is not None and ledger.finish(job, scored(0.75))
    assert desk.get("board", set=PRIVATE)["lines"][0]["total"] == 0.75
    assert desk.get("prizes")["main"][0]["team"] == HEDGEHOGS
    public = desk.caller(None)
    assert public.get("/api/v1/board", params={"set": PRIVATE}).status_code == 404
    desk.change("board/show-private")
    deadline = time.monotonic() + SECONDS
    while public.get("/api/v1/board", params={"set": PRIVATE}).status_code == 404:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    desk.change("board/hide-private")
    assert not ledger.snapshot().private_shown


def test_tokens(desk: Desk) -> None:
    made = desk.do("tokens/make", team=CAT, name="сервер", days=3)
    holder = desk.accounts.holder(made["secret"])
    assert holder is not None and holder.team is not None and holder.team.name == CAT and holder.token.by == WHO
    assert made["expires_at"] and desk.caller(made["secret"]).get("/api/v1/me").json()["team"] == CAT
    ended = desk.do("tokens/revoke", token=made["id"])
    assert ended["ended_by"] == WHO and desk.accounts.holder(made["secret"]) is None
    with desk.ledger.database.read() as connection:
        assert connection.exec_driver_sql("SELECT by, reason FROM token_end").all() == [(WHO, WHY)]
    invited = desk.do("tokens/make", name="Второй судья", kind="invitation")
    assert desk.accounts.invitation(invited["secret"]) is not None
    _, secret = desk.accounts.accept(invited["secret"], "Второй судья")
    assert desk.caller(secret).get(f"{API}/teams").status_code == 200
    assert [row["name"] for row in desk.get("tokens")] == [WHO, "Второй судья", "Второй судья"]
    assert [row["id"] for row in desk.get("tokens", team=CAT)] == [made["id"]]
    assert "ended already" in desk.refused("tokens/revoke", 409, token=made["id"])


def test_tables_to_take_away(desk: Desk) -> None:
    enter(desk.ledger, "Ёжики", 1, scored(0.5))
    desk.do("teams/add", team="=1+1", members=["Анна"], contact="")
    for what in ("board", "live-board", "private-board", "submissions", "runs", "events", "teams", "changes"):
        rows = desk.get(f"exports/{what}.json")
        table = list(csv.DictReader(io.StringIO(desk.client.get(f"{API}/exports/{what}.csv").text)))
        assert len(table) == len(rows) and all(row.keys() == line.keys() for row, line in zip(rows, table, strict=True))
    assert "'=1+1" in desk.client.get(f"{API}/exports/teams.csv").text  # a spreadsheet calculates nothing
    assert desk.client.get(f"{API}/exports/tokens.csv").status_code == 422


def test_notices(desk: Desk) -> None:
    assert desk.get("notices") == []
    for team in (HEDGEHOGS, CAT):
        enter(desk.ledger, team, "тот же ZIP", scored(0.1))
    (found,) = desk.get("notices")
    assert found["kind"] == "same-zip" and HEDGEHOGS in found["what"] and len(found["detail"]["submissions"]) == 2


# --- scoring again ---


def ended(desk: Desk) -> Any:
    """The scoring again that was begun, when it has ended."""
    deadline = time.monotonic() + SECONDS
    while (found := desk.get("rescoring"))["state"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def test_scoring_again(make_running: Callable[..., Season], make_zip: Callable[..., Path]) -> None:
    other = "Палки-ёлки 🦔"
    season = make_running()
    ledger = actions.open_ledger(season.path)
    ledger.add_team("Кот")
    actions.submit(ledger, make_zip(TRUTH), "Ёжики")
    actions.submit(ledger, make_zip(other), "Кот")
    assert actions.work(ledger, print, 2, None, drain=True)
    folder = shutil.copytree(season.data[PUBLIC], season.folder / "data" / "исправлено")
    truth = json.loads((folder / "ground_truth.json").read_bytes())
    truth = {id: [{"type": "text", "content": [other]}] for id in truth}
    (folder / "ground_truth.json").write_text(json.dumps(truth), encoding="utf-8")

    with serving(season) as url:
        desk = Desk(url, ledger)
        assert desk.get("rescoring")["state"] == "none"
        wanted = {"test_set": PUBLIC, "data": "data/исправлено"}
        assert "dry run" in desk.refused("rescoring/start", 409, **wanted, dry_run=False)
        assert desk.do("rescoring/start", **wanted)["state"] in ("running", "done")
        tried = ended(desk)
        assert tried["state"] == "done" and tried["by"] == WHO and ledger.changes() == []
        assert [place["team"] for place in tried["result"]["sets"][0]["board"]] == ["Кот", "Ёжики"]
        assert any("2 of 2" in line for line in tried["log"])
        other_request = {"test_set": PUBLIC}
        assert "dry run" in desk.refused("rescoring/start", 409, **other_request, dry_run=False)
        page = desk.client.get("/organizer/rescoring").text
        assert 'data-state="done"' in page and "2 scored again, 2 with another score" in page
        (form,) = re.findall(r'<form class="inline".*?</form>', page, re.S)  # the same in earnest, by a button
        fields = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', form)
        answer = desk.client.post("/organizer/do/rescoring/start", data=dict(fields))
        assert answer.status_code == 303, answer.text
        done = ended(desk)
        change = ledger.changes()[-1]
        assert done["state"] == "done" and done["result"]["change"] == change.id
        assert (change.kind, change.by, change.reason) == (changes.RESCORED, WHO, WHY)
        assert ledger.rules().data[PUBLIC] == folder
        assert {result.team: result.total for result in ledger.results(PUBLIC)}["Кот"] == 1.0

        desk.do("rescoring/start", test_set="нет такого")
        wrong = ended(desk)
        assert wrong["state"] == "failed" and "must be one of" in " ".join(wrong["log"])
        assert 'data-state="failed"' in desk.client.get("/organizer/rescoring").text
        for stated in ("/etc", "..", "data/../..", "нет", "."):
            assert "season's folder" in desk.refused("rescoring/start", 400, test_set=PUBLIC, data=stated)


def test_scoring_again_that_was_interrupted_goes_on(desk: Desk) -> None:
    folder = desk.ledger.season.folder / "rescoring"
    folder.mkdir()
    asked = {"test_set": PUBLIC, "dry_run": False, "reason": WHY}
    document = {"request": asked, "by": WHO, "started_at": "2022-10-03T12:00:00+03:00"}
    (folder / "request.json").write_text(json.dumps(document), encoding="utf-8")
    (folder / "lock").touch()
    assert desk.get("rescoring")["state"] == "interrupted"
    with open(folder / "lock") as lock:  # of a process that goes on without the service
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert desk.get("rescoring")["state"] == "running"
        assert "under way" in desk.refused("rescoring/start", 409, **asked)
    desk.do("rescoring/start", **asked)
    assert ended(desk)["state"] == "done"  # though there is nothing to score yet


# --- what is wrong ---


@pytest.mark.parametrize(
    ("path", "said", "status", "why"),
    [
        ("teams/rename", {"team": "Никто", "name": "Кто"}, 409, "no team 'Никто'"),
        ("teams/rename", {"team": CAT}, 422, "name"),
        ("teams/rename", {"team": CAT, "name": HEDGEHOGS}, 409, "already"),
        ("teams/disqualify", {"team": CAT, "reason": " \u00a0"}, 422, "one line that is not empty"),
        ("teams/disqualify", {"team": CAT, "reason": "две\nстроки"}, 422, "one line that is not empty"),
        ("teams/disqualify", {"team": CAT, "reasons": "?"}, 422, "reasons"),
        ("teams/extend", {"team": CAT}, 400, "until which day"),
        ("teams/members", {"team": CAT}, 400, "who its members are"),
        ("teams/merge", {"team": CAT, "into": CAT}, 409, "into itself"),
        ("submissions/withdraw", {"submission": 77}, 409, "no submission 77"),
        ("submissions/redate", {"submission": 1, "day": "вчера"}, 422, "day"),
        ("queue/retry", {"submission": 77}, 409, "77"),
        ("queue/add", {"test_set": PUBLIC}, 422, "name submissions"),
        ("queue/add", {"test_set": "?", "submissions": [1]}, 409, "must be one of"),
        ("rules/deadlines", {}, 400, "say what"),
        ("rules/deadlines", {"end": "2000-01-01"}, 409, "must be a day not before"),
        ("rules/attempts", {"chosen": 0}, 422, "chosen"),
        ("board/freeze", {"at": "2090-01-01T00:00"}, 409, "by now"),
        ("board/unfreeze", {}, 409, "not frozen"),
        ("board/hide-private", {}, 409, "not shown"),
        ("test-sets/add", {"name": "ещё", "data": "/etc"}, 400, "season's folder"),
        ("test-sets/withdraw", {"name": PUBLIC}, 409, "must be one that was added"),
        ("changes/undo", {"change": 99}, 409, "no change 99"),
        ("changes/undo", {"change": 2**40}, 422, "change"),
        ("rescoring/start", {}, 422, "which test set"),
        ("tokens/make", {"name": "x", "team": "Никто"}, 409, "no team"),
        ("tokens/make", {"name": "x", "kind": "ключ"}, 422, "kind"),
        ("tokens/revoke", {"token": 99}, 409, "no token 99"),
    ],
)
def test_what_is_wrong_is_told_and_changes_nothing(
    desk: Desk, path: str, said: dict[str, Any], status: int, why: str
) -> None:
    before = desk.ledger.version()
    assert why in desk.refused(path, status, **said)
    assert desk.ledger.version() == before


def test_only_organizers(desk: Desk) -> None:
    team = desk.caller(desk.accounts.make(CAT, "ноутбук", "root")[1])
    paths = [("POST", deed.path) for deed in DEEDS]
    paths += [("GET", path) for path in ("queue", "teams", "changes", "exports/teams.csv", "rescoring", "runs/1/log")]
    before = desk.ledger.version()
    for method, path in paths:
        for caller, status in ((desk.caller(None), 401), (team, 403)):
            assert caller.request(method, f"{API}/{path}", json={}).status_code == status, (method, path)
    assert desk.ledger.version() == before
