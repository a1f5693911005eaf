"""The organizers' pages: what needs somebody, teams, submissions, rules, finals, changes; each deed of `organizing` is
a form there.

A form that says all goes through at once. One that lacks the reason, is wrong, or asks for something grave leads to a
page of its own, which shows what is meant, asks for what lacks and tells what was wrong.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse
from pydantic import ValidationError
from sse_starlette import EventSourceResponse
from starlette.datastructures import FormData, UploadFile

from evaluator.core.errors import EvaluatorError
from evaluator.season import PUBLIC, TEST_SETS, actions, listing, notices, prizes
from evaluator.season.history import EventRow, History
from evaluator.season.ledger import Snapshot, Team
from evaluator.season.schema import STEPS
from evaluator.season.site.words import NAMES
from evaluator.web.access import CSRF_FIELD, AnOrganizer, AnyCaller, AWatcher, Caller, TheAccounts
from evaluator.web.api import Number
from evaluator.web.live import TheLive, stamp
from evaluator.web.organizer_api import EXPORTS
from evaluator.web.organizing import DEEDS, Deed, Imported, Made, Queue, Rescore, TheDesk, Words
from evaluator.web.pages import is_own_path, show_secret
from evaluator.web.problems import not_found, of_error
from evaluator.web.site import ORGANIZERS, Site, TheSite

HOME = ORGANIZERS[0]
MOST_ROWS = 500  # of submissions and changes on a page
LIVE_SECONDS = 3.0
_MOST_TOLD = 1000

TABS = (
    (HOME, "Очередь", "Queue"),
    (f"{HOME}/teams", "Команды", "Teams"),
    (f"{HOME}/submissions", "Решения", "Submissions"),
    (f"{HOME}/rules", "Правила и таблицы", "Rules and boards"),
    (f"{HOME}/finals", "Финал", "Finals"),
    (f"{HOME}/rescoring", "Пересчёт", "Scoring again"),
    (f"{HOME}/changes", "Изменения", "Changes"),
    (f"{HOME}/access", "Доступ", "Access"),
    (f"{HOME}/exports", "Выгрузки", "Tables"),
)

# What a deed is called on its form and its button, and what is to be known before.
WORDS: Mapping[str, tuple[Words, Words]] = {
    "teams/add": (("Добавить команду", "Add a team"), ("", "")),
    "teams/import": (
        ("Загрузить таблицу команд", "Import a table of teams"),
        (
            "CSV с колонками team, members, contact. Новые команды добавятся, у прежних сменятся участники и связь.",
            "A CSV with the columns team, members, contact. New teams are added; of others members and contact change.",
        ),
    ),
    "teams/rename": (("Переименовать", "Rename"), ("", "")),
    "teams/members": (("Записать участников и связь", "Enter members and contact"), ("", "")),
    "teams/remove": (
        ("Убрать команду", "Remove the team"),
        ("Как заведённую по ошибке: её не будет нигде.", "As one entered by mistake: it stands nowhere then."),
    ),
    "teams/disqualify": (
        ("Дисквалифицировать", "Disqualify"),
        (
            "Команды не будет на таблицах и в призах; что ждёт в очереди, отменится.",
            "It stands on no board and wins no prize; what it has waiting is cancelled.",
        ),
    ),
    "teams/out-of-competition": (
        ("Вывести из конкурса", "Take out of competition"),
        ("Команда остаётся на таблицах, без места и призов.", "It stays on the boards, without rank and prizes."),
    ),
    "teams/reinstate": (("Вернуть команду", "Reinstate"), ("", "")),
    "teams/merge": (
        ("Присоединить к другой", "Merge into another"),
        (
            "Её решения, попытки и выбор станут той команды.",
            "Its submissions, attempts and choice become that team's.",
        ),
    ),
    "teams/extend": (
        ("Продлить или дать попытки", "Extend, or give attempts"),
        ("Пустой день попыток — сегодня.", "Attempts of no day are of today."),
    ),
    "submissions/withdraw": (
        ("Снять решение", "Withdraw"),
        (
            "Его не будет на таблицах, в выборе и в призах; попытка остаётся потраченной.",
            "It stands on no board, in no choice and wins no prize; its attempt stays used.",
        ),
    ),
    "submissions/restore": (("Вернуть решение", "Restore"), ("", "")),
    "submissions/redate": (("Сменить день попытки", "Change the day of its attempt"), ("", "")),
    "queue/retry": (("Повторить прогон", "Retry"), ("", "")),
    "queue/cancel": (
        ("Отменить прогон", "Cancel the run"),
        ("Попытка команды не тратится.", "It costs the team no attempt."),
    ),
    "queue/add": (
        ("Поставить в очередь", "Queue runs"),
        ("Номера решений через запятую.", "Numbers of submissions, with commas between."),
    ),
    "rules/deadlines": (
        ("Перенести дни", "Move days"),
        ("Что пусто, останется как есть.", "What is empty stays as it is."),
    ),
    "rules/attempts": (("Изменить числа", "Change numbers"), ("", "")),
    "board/freeze": (
        ("Заморозить публичную таблицу", "Freeze the public board"),
        ("Пусто — с этого мгновения.", "Empty: as of now."),
    ),
    "board/unfreeze": (("Разморозить", "Unfreeze"), ("", "")),
    "board/show-private": (
        ("Показать всем приватную таблицу", "Show the private board to all"),
        (
            "Все увидят приватную таблицу и призы, команды — свои приватные результаты.",
            "Everybody sees the private board and the prizes, teams see their private results.",
        ),
    ),
    "board/hide-private": (("Скрыть приватную таблицу", "Hide the private board"), ("", "")),
    "announcements/add": (("Объявить", "Announce"), ("", "")),
    "test-sets/add": (
        ("Добавить данные", "Add a test set"),
        (
            "Папка внутри папки сезона на сервере, например data/finals.",
            "A folder within the season's on the server, such as data/finals.",
        ),
    ),
    "test-sets/withdraw": (("Убрать данные", "Withdraw the test set"), ("", "")),
    "changes/undo": (("Отменить изменение", "Undo"), ("", "")),
    "finals/queue": (
        ("Поставить финал в очередь", "Queue the finals"),
        (
            "Прогоны выбранных решений на приватных данных. Повторно ставятся только недостающие.",
            "Runs of the chosen submissions on the private test set. Again, it queues those alone that are missing.",
        ),
    ),
    "rescoring/start": (
        ("Пересчитать", "Score again"),
        (
            "Сначала пробный пересчёт: он ничего не меняет и показывает, что изменится.",
            "A dry run comes first: it changes nothing and shows what would change.",
        ),
    ),
    "tokens/make": (("Выдать доступ", "Give access"), ("", "")),
    "tokens/revoke": (
        ("Отозвать", "Revoke"),
        ("Кто вошёл с ним, выйдет.", "Who signed in with it is signed out."),
    ),
}


@dataclass(frozen=True)
class Field:
    """A field of forms: what it is called, and its kind, as of HTML's inputs, or one of `choices`."""

    name: Words
    kind: str = "text"
    choices: Sequence[tuple[str, Words]] = ()


def _day(ru: str, en: str) -> Field:
    return Field((ru, en), "date")


def _number(ru: str, en: str) -> Field:
    return Field((ru, en), "number")


FIELDS: Mapping[str, Field] = {
    "reason": Field(("Почему (для записи)", "Why (for the record)")),
    "team": Field(("Команда", "Team")),
    "name": Field(("Имя", "Name")),
    "members": Field(("Участники, через запятую", "Members, with commas between")),
    "contact": Field(("Связь", "Contact")),
    "into": Field(("К какой команде", "Into which team")),
    "until": _day("Последний день отправки", "Last day to send"),
    "attempts": _number("Ещё попыток", "So many more attempts"),
    "day": _day("День", "Day"),
    "table": Field(("Файл CSV", "CSV file"), "file"),
    "submission": _number("Решение", "Submission"),
    "submissions": Field(("Решения", "Submissions")),
    "test_set": Field(("Данные", "Test set"), "test_set"),
    "start": _day("Первый день отправки", "First day to send"),
    "end": _day("Последний день отправки", "Last day to send"),
    "choose_until": _day("Последний день выбора", "Last day to choose"),
    "valid_a_day": _number("Зачётных попыток в день", "Valid attempts a day"),
    "invalid_a_day": _number("Незачётных попыток в день", "Invalid attempts a day"),
    "chosen": _number("Выбирают решений", "Submissions that are chosen"),
    "at": Field(("Что было на таблице в", "As it was at"), "datetime-local"),
    "text": Field(("Текст, одна строка", "Text, of one line")),
    "data": Field(("Папка с данными", "Folder of the data")),
    "change": _number("Изменение", "Change"),
    "token": _number("Токен", "Token"),
    "kind": Field(
        ("Что", "What"),
        choices=(("invitation", ("ссылка-приглашение", "invitation by a link")), ("token", ("токен", "token"))),
    ),
    "days": _number("Действует дней (пусто — без срока)", "Days that it works (empty: for good)"),
    "weights": Field(("Веса, например 11=0, 6=1/10", "Weights, such as 11=0, 6=1/10")),
    "missing": Field(
        ("Чьи ответы не сохранились", "Whose output is not kept"),
        choices=(
            ("refuse", ("не пересчитывать ничего", "score nothing again")),
            ("queue", ("прогнать заново", "run these again")),
            ("leave", ("убрать с таблицы", "take them off the board")),
        ),
    ),
    "dry_run": Field(
        ("Как", "How"), choices=(("true", ("на пробу", "a dry run")), ("false", ("по-настоящему", "in earnest")))
    ),
}
_CHOSEN = Field(("Чьи", "Which"), choices=(("true", ("выбранные командами", "those that teams have chosen")),))
_BY_PATH = {deed.path: deed for deed in DEEDS}
_CARRIED = ("table",)  # fields whose text is too long to be shown
_WHOM = ("team", "submission", "change", "token", "table", "test_set", "dry_run")  # what a form is about stays

router = APIRouter(prefix=HOME, include_in_schema=False)


class Told:
    """What came of forms, until the pages after them have told it."""

    def __init__(self) -> None:
        self._lines: dict[str, Words] = {}

    def keep(self, line: Words) -> str:
        """Keep a line; returns what it is asked for by."""
        key = secrets.token_urlsafe(8)
        self._lines[key] = line
        while len(self._lines) > _MOST_TOLD:
            self._lines.pop(next(iter(self._lines)), None)
        return key

    def take(self, key: str) -> Words | None:
        """That line, once."""
        return self._lines.pop(key, None)


Done = Annotated[str, Query(max_length=100)]


def _respond(
    request: Request, site: Site, caller: Caller, template: str, title: Words, here: str, done: str = "", **more: Any
) -> Response:
    told: Told = request.app.state.told
    page = site.pages().page(f"{template}.html", title, secret=True)
    return site.respond(caller, page, HOME, tab=here, told=told.take(done), **_common(site, caller) | more)


def _common(site: Site, caller: Caller) -> dict[str, Any]:
    """What the templates of all forms use."""
    return {
        "tabs": TABS,
        "words": WORDS,
        "fields": FIELDS,
        "test_sets": list(site.pages().season.data),
        "csrf": caller.csrf,
    }


# --- the queue ---


@router.get("")
def queue(request: Request, site: TheSite, caller: AnyCaller, organizer: AnOrganizer, done: Done = "") -> Response:
    """What waits, runs, and needs somebody; the machines."""
    pages = site.pages()
    told: Told = request.app.state.told
    found = notices.of_snapshot(pages.snapshot)
    return site.respond(
        caller,
        pages.organizer(),
        HOME,
        template="organizer_queue.html",
        live=(f"{HOME}/live", _stamp(pages.snapshot)),
        **_common(site, caller) | {"modules": ["live.js"], "tab": HOME, "told": told.take(done), "notices": found},
    )


@router.get("/live")
async def live_queue(live: TheLive, organizer: AnOrganizer, watcher: AWatcher) -> EventSourceResponse:
    """Tells when the queue is another."""
    return live.stream(watcher, HOME, _stamp, LIVE_SECONDS)


def _stamp(snapshot: Snapshot) -> str:
    states = [(state.run, state.name, state.worker) for state in snapshot.states]
    return stamp(states, len(snapshot.changes), len(snapshot.teams))


# --- teams ---


@router.get("/teams")
def teams(request: Request, site: TheSite, caller: AnyCaller, organizer: AnOrganizer, done: Done = "") -> Response:
    """All teams."""
    snapshot = site.pages().snapshot
    sent: dict[str, int] = {}
    for state in snapshot.states:
        sent[state.submission.team] = sent.get(state.submission.team, 0) + (state.test_set == PUBLIC)
    rows = [row | {"sent": sent.get(row["team"], 0)} for row in listing.team_rows(snapshot)]
    return _respond(request, site, caller, "organizer_teams", ("Команды", "Teams"), f"{HOME}/teams", done, teams=rows)


@router.get("/teams/{team}")
def team(
    request: Request,
    team: Number,
    site: TheSite,
    caller: AnyCaller,
    organizer: AnOrganizer,
    accounts: TheAccounts,
    done: Done = "",
) -> Response:
    """A team: who it is, what it sent, what may be done about it."""
    snapshot = site.pages().snapshot
    found = _find_team(snapshot, team)
    own = [state for state in snapshot.states if state.submission.team == found.name]
    return _respond(
        request,
        site,
        caller,
        "organizer_team",
        (found.name, found.name),
        f"{HOME}/teams",
        done,
        team=found,
        into=None if found.into is None else _find_team(snapshot, found.into),
        attempts=snapshot.attempts.get(found.name),
        states=own[::-1],
        tokens=[] if found.into else [token for token in accounts.tokens(found.name) if token.holds(snapshot.now)],
    )


def _find_team(snapshot: Snapshot, id: int) -> Team:
    found = next((each for each in snapshot.teams if each.id == id), None)
    if found is None:
        raise not_found("such page")
    return found


# --- submissions ---


@router.get("/submissions")
def submissions(
    request: Request,
    site: TheSite,
    caller: AnyCaller,
    organizer: AnOrganizer,
    team: Annotated[str, Query(max_length=1000)] = "",
    day: str = "",
    state: str = "",
    withdrawn: bool = False,
    done: Done = "",
) -> Response:
    """All submissions, or some; the newest first."""
    fault, rows = "", []
    try:
        wanted = date.fromisoformat(day) if day else None
        rows = listing.submissions(organizer.ledger, team or None, wanted, state or None, withdrawn)
    except ValueError:
        fault = f"{day}: must be a day such as 2022-11-13"
    except EvaluatorError as error:
        fault = error.reasons[0]
    return _respond(
        request,
        site,
        caller,
        "organizer_submissions",
        ("Решения", "Submissions"),
        f"{HOME}/submissions",
        done,
        rows=rows[::-1][:MOST_ROWS],
        not_shown=max(0, len(rows) - MOST_ROWS),
        asked={"team": team, "day": day, "state": state, "withdrawn": withdrawn},
        states=[name for name in (*STEPS, *NAMES) if name != "done"],
        fault=fault,
        teams=[each.name for each in site.pages().snapshot.teams],
    )


@router.get("/submissions/{submission}")
def submission(
    request: Request, submission: Number, site: TheSite, caller: AnyCaller, organizer: AnOrganizer, done: Done = ""
) -> Response:
    """A submission: all that happened to it, and what may be done about it."""
    snapshot = site.pages().snapshot
    states = [state for state in snapshot.states if state.submission.id == submission]
    if not states:
        raise not_found("such page")
    events: list[EventRow] = History(organizer.ledger).of(submission)
    title = (f"Решение {submission}", f"Submission {submission}")
    return _respond(
        request,
        site,
        caller,
        "organizer_submission",
        title,
        f"{HOME}/submissions",
        done,
        sent=states[0].submission,
        states=states,
        events=events,
        team=next(each for each in snapshot.teams if each.name == states[0].submission.team),
    )


# --- rules, finals, scoring again ---


@router.get("/rules")
def rules(request: Request, site: TheSite, caller: AnyCaller, organizer: AnOrganizer, done: Done = "") -> Response:
    """The days and numbers that hold, the boards, announcements, test sets."""
    snapshot = site.pages().snapshot
    return _respond(
        request,
        site,
        caller,
        "organizer_rules",
        ("Правила и таблицы", "Rules and boards"),
        f"{HOME}/rules",
        done,
        private_shown=snapshot.private_shown,
        announcements=snapshot.announcements,
        sets=listing.test_set_rows(organizer.ledger),
        given=TEST_SETS,
    )


@router.get("/finals")
def finals(request: Request, site: TheSite, caller: AnyCaller, organizer: AnOrganizer, done: Done = "") -> Response:
    """The private runs, and what the prizes wait for."""
    snapshot = site.pages().snapshot
    added = [name for name in snapshot.season.data if name not in TEST_SETS]
    return _respond(
        request,
        site,
        caller,
        "organizer_finals",
        ("Финал", "Finals"),
        f"{HOME}/finals",
        done,
        missing=prizes.unfinished(snapshot),
        choosing=snapshot.season.day(snapshot.now) <= snapshot.season.choose_until,
        private_shown=snapshot.private_shown,
        added=added,
        boards=[actions.read_board(organizer.ledger, name) for name in added],
    )


@router.get("/rescoring")
def rescoring(request: Request, site: TheSite, caller: AnyCaller, desk: TheDesk, done: Done = "") -> Response:
    """Scoring again: what it would change, how it goes, what it changed."""
    return _respond(
        request,
        site,
        caller,
        "organizer_rescoring",
        ("Пересчёт", "Scoring again"),
        f"{HOME}/rescoring",
        done,
        job=desk.rescorings.view(),
    )


# --- the record, who may come, tables ---


@router.get("/changes")
def changes(request: Request, site: TheSite, caller: AnyCaller, organizer: AnOrganizer, done: Done = "") -> Response:
    """All that organizers changed, the newest first."""
    taken = site.pages().snapshot
    rows = listing.change_rows(taken.changes, taken.teams, taken.season)
    return _respond(
        request,
        site,
        caller,
        "organizer_changes",
        ("Изменения", "Changes"),
        f"{HOME}/changes",
        done,
        rows=list(zip(rows, taken.changes, strict=True))[::-1][:MOST_ROWS],
        not_shown=max(0, len(rows) - MOST_ROWS),
    )


@router.get("/access")
def access(
    request: Request,
    site: TheSite,
    caller: AnyCaller,
    organizer: AnOrganizer,
    accounts: TheAccounts,
    done: Done = "",
) -> Response:
    """The organizers' tokens and invitations."""
    return _respond(
        request,
        site,
        caller,
        "organizer_access",
        ("Доступ", "Access"),
        f"{HOME}/access",
        done,
        tokens=accounts.tokens(None),
    )


@router.get("/exports")
def exports(request: Request, site: TheSite, caller: AnyCaller, organizer: AnOrganizer) -> Response:
    """Tables to take away."""
    title = ("Выгрузки", "Tables")
    return _respond(request, site, caller, "organizer_exports", title, f"{HOME}/exports", exports=list(EXPORTS))


# --- what is done ---


@dataclass
class _Form:
    """A form that was sent: for which deed, what it says, where it came from; `sure` where the question whether it is
    meant was answered.
    """

    deed: type[Deed]
    said: dict[str, str]
    back: str
    sure: bool
    faults: Sequence[str] = field(default_factory=tuple)
    outcome: Words | None = None

    @classmethod
    async def read(cls, deed: type[Deed], form: FormData) -> "_Form":
        said: dict[str, str] = {}
        faults: list[str] = []
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                try:
                    said[name] = (await value.read()).decode("utf-8-sig")
                except UnicodeDecodeError:
                    faults.append(f"{value.filename}: is no UTF-8 text")
                if value.filename and "name" in deed.model_fields:
                    said["name"] = value.filename
            else:
                said[name] = value
        back = said.pop("back", HOME)
        sure = bool(said.pop("sure", ""))
        said.pop(CSRF_FIELD, None)
        if not (is_own_path(back) and (back == HOME or back.startswith((f"{HOME}/", f"{HOME}#")))):
            back = HOME
        kept = {name: value for name, value in said.items() if value.strip() or name in deed.empty}
        return cls(deed, kept, back, sure, faults)

    @property
    def must_ask(self) -> bool:
        """Whether somebody is to say why, or that it is meant."""
        lacks = "reason" not in self.said and self.deed.model_fields["reason"].is_required()
        return lacks or (self.deed.is_grave and not self.sure)

    def found_wrong(self, error: ValidationError) -> list[str]:
        """A line for each fault; that the reason lacks is none before it was asked for."""
        lines = []
        for fault in error.errors():
            place = ".".join(map(str, fault["loc"]))
            if self.sure or (place, fault["type"]) != ("reason", "missing"):
                lines.append(f"{place}: {fault['msg']}" if place else fault["msg"])
        return lines


@router.post("/do/{path:path}")
async def do(request: Request, path: str, site: TheSite, caller: AnyCaller, desk: TheDesk) -> Response:
    """Do what a form says, or ask about it."""
    deed = _BY_PATH.get(path)
    if deed is None:
        raise not_found("such page")
    form = await _Form.read(deed, await request.form())
    return await run_in_threadpool(_do, request, site, caller, desk, form)


def _do(request: Request, site: Site, caller: Caller, desk: TheDesk, form: _Form) -> Response:
    if form.faults:
        return _ask(request, site, caller, form, 400)
    try:
        wanted = form.deed.model_validate(form.said)
    except ValidationError as error:
        form.faults = form.found_wrong(error)
        return _ask(request, site, caller, form, 422 if form.faults else 200)
    if form.must_ask:
        return _ask(request, site, caller, form)
    try:
        outcome = wanted.do(desk)
    except EvaluatorError as error:
        problem = of_error(error)
        form.faults = problem.extra.get("reasons") or [problem.detail]
        return _ask(request, site, caller, form, problem.status)
    if isinstance(outcome, Made):
        (token,) = [each for each in desk.accounts.tokens(wanted.model_dump()["team"]) if each.id == outcome.id]
        return show_secret(request, site, caller, token, outcome.secret, form.back)
    if isinstance(outcome, Imported) and outcome.dry_run:
        form.outcome, form.said["dry_run"] = outcome.said(), "false"
        return _ask(request, site, caller, form)
    told: Told = request.app.state.told
    address, _, anchor = form.back.partition("#")
    return RedirectResponse(f"{address}?done={told.keep(outcome.said())}#{anchor or 'done'}", 303)


def _ask(request: Request, site: Site, caller: Caller, form: _Form, status: int = 200) -> Response:
    """The page that a form leads to which is not done yet. What is wrong can be mended there."""
    is_open = bool(form.faults)
    about = _WHOM if not is_open else tuple(name for name in _WHOM if name not in _CARRIED)
    names = [name for name in form.deed.model_fields if name not in ("reason", *about)]
    fields = FIELDS if form.deed is not Queue else {**FIELDS, "chosen": _CHOSEN}
    page = site.pages().page("organizer_ask.html", WORDS[form.deed.path][0], secret=True)
    more = {
        "form": form,
        "carried": _CARRIED,
        "kept": [name for name in form.said if name in form.deed.model_fields and not (is_open and name in names)],
        "open": [name for name in names if is_open],
        "is_rescoring": form.deed is Rescore,
        "tab": "",
        "told": None,
        "fields": fields,
    }
    return site.respond(caller, page, HOME, status, **_common(site, caller) | more)
