"""Names that nobody could read, or would take for another team's."""

import unicodedata
from concurrent.futures import ThreadPoolExecutor

import pytest

from evaluator.core.errors import DataError
from evaluator.season import names
from evaluator.season.ledger import Ledger, Refused
from tests.support.season import archive

BLANK = [
    "\u3164", "\u2800", "\u115f", "\u1160", "\uffa0", "\u034f", "\u180b", "\u17b4", "\ufe00", "\ufe0f", "\U000e0100",
    "\U0001d159", "\ufffc", "\u200b", "\u00ad", "\u2060", "\u00a0", "\u2003", "\u3000", "\ufeff", "\U00016fe4",
]  # fmt: skip


@pytest.mark.parametrize("character", BLANK, ids=lambda character: f"U+{ord(character):04X}")
def test_what_cannot_be_seen_is_in_no_name(character: str) -> None:
    for name in (character, character * 3, f"Кот{character}", f"{character}Кот", f"К{character}от"):
        stripped = unicodedata.normalize("NFC", name).strip()
        if stripped in ("Кот", ""):  # white space around a name is taken off
            continue
        with pytest.raises(DataError, match=r"must be 1\.\.60 printable characters"):
            names.checked(name)
    with pytest.raises(DataError, match="printable"):
        names.checked(character)


def test_a_name_has_something_to_be_seen() -> None:
    with pytest.raises(DataError, match="nothing to be seen but marks"):
        names.checked("\u0301\u0308")
    with pytest.raises(DataError, match=r"U\+3164 cannot be seen"):
        names.checked("К\u3164от")
    for name in ("Ёжики", " Кот ", "❤\ufe0f Кот", "1\ufe0f\u20e3", "Команда №1", "!", "猫", "🦔", "한글", "Zoë & Co."):
        assert names.checked(name) == unicodedata.normalize("NFC", name).strip()


@pytest.mark.parametrize(
    "other",
    [
        "K\u043e\u0442",  # a Latin K
        "Кo\u0442", "KOT", "kot", "КОT", "K0T", "\u212aОТ", "\uff2b\uff2f\uff34", "К\u03bfт",
        "Κοτ",  # Greek
        "\U0001d40a\U0001d40e\U0001d413", "кот\ufe0f",
    ],
)  # fmt: skip
def test_a_team_is_not_taken_for_another(ledger: Ledger, other: str) -> None:
    with pytest.raises((Refused, DataError), match=r"looks like the team 'Кот'|cannot be seen|'Кот' already"):
        ledger.add_team(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Team 1", "Team l"), ("Team 1", "Team I"), ("Team 0", "Team O"), ("Team  1", "Team 1"), ("modern", "modem"),
        ("Команда З", "Команда 3"), ("scope", "ѕсоре"), ("Ra-ta", "Ra‐ta"), ("д'Артаньян", "д’Артаньян"),
        ("Сбер", "C6ep"), ("AI", "Al"), ("Koi", "\u13e6O\u13a2"), ("straße", "STRASSE"),
        ("Ω", "Ω"), ("Ёж", "Eж".replace("E", "E\u0308")),
    ],
)  # fmt: skip
def test_names_that_look_alike(ledger: Ledger, one: str, other: str) -> None:
    ledger.add_team(one)
    with pytest.raises(Refused, match=r"looks like the team|there is a team"):
        ledger.add_team(other)


def test_names_that_do_not(ledger: Ledger) -> None:
    """The published baseline's language and others: nobody honest is turned away."""
    for name in (
        "Ежики", "Коты", "Кит", "Team 1", "Team 2", "Team 11", "Team 12", "Сбер", "Sber", "МФТИ", "MIPT", "Ёж", "Еж",
        "Йод", "a b", "ab", "猫", "犬", "🦔", "🐈", "AIRI", "AURA", "ИТМО", "ITMO 2", "Δ", "A",
    ):  # fmt: skip
        ledger.add_team(name)


def test_two_look_alikes_at_once(ledger: Ledger) -> None:
    def add(name: str) -> bool:
        try:
            ledger.add_team(name)
            return True
        except Refused:
            return False

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(add, ["Сова", "Coва", "Cовa", "CОВА"])) == 1


def test_who_is_there_already_stays(ledger: Ledger) -> None:
    """A season may have look-alikes from before; both are known by their names."""
    with ledger.database.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO team (name, key, created_at) VALUES ('Koт', 'koт', '2022-10-01 00:00:00')"
        )
    assert ledger.team("Koт").name == "Koт" and ledger.team("Кот").name == "Кот"
    submission, is_new = ledger.submit("Koт", archive(1))
    assert is_new and submission.team == "Koт"


def test_the_table_is_complete_in_itself() -> None:
    """What a character is taken for is taken for nothing else."""
    table = names._confusables()
    assert len(table) > 2500 and table[ord("а")] == "a"
    assert all(names._skeleton(text) == unicodedata.normalize("NFD", text) for text in table.values())
