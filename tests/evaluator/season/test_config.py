"""season.toml: what it may say, and what is said of what it may not."""

import re
from datetime import date, datetime
from pathlib import Path

import pytest

from evaluator.competition.definition import default
from evaluator.core.errors import DataError
from evaluator.core.limits import RUN
from evaluator.season import config
from evaluator.season.config import read_season
from tests.support.season import write_season

EXAMPLE = Path(config.__file__).with_name("season.example.toml")


def test_the_example_has_the_published_rules() -> None:
    season = read_season(EXAMPLE)
    assert (season.valid_a_day, season.chosen, season.tries) == (3, 3, 3)
    assert season.limits == RUN and season.runner == "docker" and season.folder == EXAMPLE.parent
    assert season.total(season.baseline) == pytest.approx(default().definition.integral.baseline, abs=5e-4)
    assert season.thresholds == {0: 0.20, 1: 0.25, 2: 0.21, 3: 0.15, 4: 0.24, 5: 0.13}
    assert season.total(dict.fromkeys(range(12), 1.0)) == pytest.approx(1.0)
    assert season.total(dict.fromkeys(range(11), 1.0)) is None


def test_what_the_example_says_are_the_defaults(tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    kept = re.split(r"(?m)^(?=\[)", text)[1:]
    required = [part for part in kept if part.startswith(("[season]", "[data]"))]
    path = tmp_path / "season.toml"
    path.write_text("".join(required), encoding="utf-8")
    season, example = read_season(path), read_season(EXAMPLE)
    names = set(config.Season.model_fields) - {"path", "public", "private", "formula"} | {"weights"}
    assert {name: getattr(season, name) for name in names} == {name: getattr(example, name) for name in names}


def test_days_are_those_of_the_zone(tmp_path: Path) -> None:
    season = write_season(tmp_path, "sqlite:///s.sqlite3")
    assert season.day(datetime.fromisoformat("2022-10-03T20:59:59+00:00")) == date(2022, 10, 3)
    assert season.day(datetime.fromisoformat("2022-10-03T21:00:00+00:00")) == date(2022, 10, 4)


def test_limits_and_weights_can_be_set(tmp_path: Path) -> None:
    path = write_season(tmp_path, "sqlite:///s.sqlite3").path
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("5 = 1", "5 = '1/4'\n7 = 0.5") + "\n[limits]\ntime = '2h'\npids = 9", encoding="utf-8")
    season = read_season(path)
    assert season.limits == RUN.override(["time=2h", "pids=9"])
    assert season.limit_settings == ("time=2h", "pids=9")
    assert season.weights == {5: 0.25, 7: 0.5} and season.total({5: 0.4, 7: 0.2, 1: 1.0}) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("time_zone", '"Mars/X"', "[season] time_zone: must be a time zone such as 'Europe/Moscow', not 'Mars/X'"),
        ("time_zone", '"../etc/passwd"', "[season] time_zone: must be a time zone"),
        ("start", '"2022-10-01"', "[season] start: must be a day such as 2022-11-13, without quotes"),
        ("start", "2022-10-01T00:00:00", "[season] start: must be a day"),
        ("end", "2022-09-01", "[season] end: must be a day not before start, 2022-10-01"),
        ("choose_until", "2022-10-02", "[season] choose_until: must be a day not before end, 2022-10-20"),
        ("invalid_a_day", "0", "[attempts] invalid_a_day: must be a whole number in 1..1000, not 0"),
        ("invalid_a_day", "1.5", "[attempts] invalid_a_day: must be a whole number"),
        ("invalid_a_day", "true", "[attempts] invalid_a_day: must be a whole number"),
        ("lease_seconds", "inf", "[runs] lease_seconds: must be a number in 1..3600, not inf"),
        ("runner", '"podman"', "[runs] runner: must be one of auto, docker, local, not 'podman'"),
        ("public", "5", "[data] public: must be a text of one line that is not empty, not 5"),
        ("name", '""', "[season] name: must be a text of one line that is not empty, not ''"),
        ("5", '"1/0"', "[formula] 5: must be a number in 0..1, or a fraction such as '1/15', not '1/0'"),
        ("5", "nan", "[formula] 5: must be a number in 0..1"),
        ("5", "0", "[formula] gives no task a weight"),
    ],
)
def test_a_fault_names_place_value_and_what_is_allowed(tmp_path: Path, key: str, value: str, found: str) -> None:
    with pytest.raises(DataError) as caught:
        write_season(tmp_path, "sqlite:///s.sqlite3", **{key: value})
    assert f"season {tmp_path}/season.toml: {found}" in str(caught.value)


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "season.toml"
    path.write_text("[season]\nnme = 1\n[prizes]\n[limits]\nspeed = 3\n[thresholds]\n12 = 0.5\n5 = 2", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_season(path)
    text = "\n".join(caught.value.reasons)
    for part in (
        "[season] unknown key 'nme'; allowed are competition, name, time_zone, start, end, choose_until, contact, ",
        "[prizes] is unknown; allowed are season, attempts",
        "[season] name, time_zone, start, end: are missing",
        "[data] public, private: are missing",
        "'speed' is no limit",
        "[thresholds] unknown key '12'; allowed are 0, 1",
        "[thresholds] 5: must be a number in 0..1, not 2",
    ):
        assert part in text


def test_what_is_wrong_with_several_keys_is_one_line(tmp_path: Path) -> None:
    example = EXAMPLE.read_text(encoding="utf-8")
    path = tmp_path / "season.toml"
    for before, after, found in (
        ('open = "1/15"', '0="x"\n1="x"\n2="x"\n3="x"', "[formula] 0, 1, 2, 3: must be a number in 0..1, or"),
        ('open = "1/15"', "opn = 1\nopnn = 1", "[formula] unknown keys 'opn', 'opnn'; allowed are open, hidden, 0,"),
        ('open = "1/15"', "open = 0", "[thresholds] 0, 1, 2, 3, 4, 5: no weight in [formula]"),
    ):
        path.write_text(example.replace(before, after, 1), encoding="utf-8")
        with pytest.raises(DataError) as caught:
            read_season(path)
        (reason,) = caught.value.reasons
        assert found in reason


def test_pages_link_to_web_addresses_alone(tmp_path: Path) -> None:
    season = write_season(tmp_path, "sqlite:///s.sqlite3")
    assert (season.contact, season.rules_url, season.board_url) == (None, None, None)
    with pytest.raises(DataError, match=r"\[season\] rules_url: must be an address that begins with https://"):
        write_season(tmp_path, "sqlite:///s.sqlite3", name='"Проба"\nrules_url = "javascript:alert(1)"')


def with_web(folder: Path, *lines: str) -> config.Season:
    path = write_season(folder, "sqlite:///s.sqlite3").path
    path.write_text("\n".join([path.read_text(encoding="utf-8"), "[web]", *lines]), encoding="utf-8")
    return read_season(path)


def test_a_season_is_served_at_the_address_of_a_host(tmp_path: Path) -> None:
    season = write_season(tmp_path, "sqlite:///s.sqlite3")
    assert (season.web_url, season.web_logs, season.upload_hours, season.keep_free_gb) == (None, "public", 24, 20)
    for given, url in (
        ("https://fbc.example.org", "https://fbc.example.org"),
        ("https://соревнование.рф/", "https://соревнование.рф"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ):
        assert with_web(tmp_path, f'url = "{given}"').web_url == url
    season = with_web(tmp_path, 'logs = "none"', "upload_hours = 1", "keep_free_gb = 0.5")
    assert (season.web_logs, season.upload_hours, season.keep_free_gb) == ("none", 1, 0.5)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        *(
            (f'url = "{url}"', "[web] url: must be the address of a host such as https://fbc.example.org, without a")
            for url in (
                *("fbc.example.org", "https://", "https://example.org/fbc", "https://example.org?a", "https://:80"),
                *("javascript:alert(1)", "https://a b", "https://ёж:пароль@example.org", "https://example.org:x"),
                *("https://example.org//", "https://example.org#a", "ftp://example.org"),
            )
        ),
        ('logs = "all"', "[web] logs: must be one of public, none, not 'all'"),
        ("upload_hours = 0", "[web] upload_hours: must be a whole number in 1..1000, not 0"),
        ("keep_free_gb = -1", "[web] keep_free_gb: must be a number in 0..1e+06, not -1"),
        ("adress = 1", "[web] unknown key 'adress'; allowed are url, logs, upload_hours, keep_free_gb"),
    ],
)
def test_what_cannot_be_said_of_the_web(tmp_path: Path, line: str, found: str) -> None:
    with pytest.raises(DataError) as caught:
        with_web(tmp_path, line)
    (reason,) = caught.value.reasons
    assert found in reason


def test_the_last_moment_of_a_day_is_before_midnight_though_the_clock_is_changed(tmp_path: Path) -> None:
    season = write_season(tmp_path, "sqlite:///s.sqlite3")
    assert season.last_moment(season.end).isoformat() == "2022-10-20T23:59:59+03:00"
    beirut = write_season(tmp_path, "sqlite:///s.sqlite3", time_zone='"Asia/Beirut"')  # 27 March 2022 began at 1:00
    assert beirut.last_moment(date(2022, 3, 26)).isoformat() == "2022-03-26T23:59:59+02:00"
    assert beirut.day(beirut.last_moment(date(2022, 10, 29))) == date(2022, 10, 29)


def test_a_threshold_of_a_task_without_weight_is_a_fault(tmp_path: Path) -> None:
    """Nobody has a score there, so nobody could win."""
    example = EXAMPLE.read_text(encoding="utf-8")
    assert example.count("# 11 = 0  ") == 1
    path = tmp_path / "season.toml"
    path.write_text(example.replace("# 11 = 0  ", "5 = 0  "), encoding="utf-8")
    with pytest.raises(DataError, match=r"\[thresholds\] 5: no weight in \[formula\]"):
        read_season(path)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read: No such file.*start with season.example.toml"):
        read_season(tmp_path / "season.toml")
    (tmp_path / "season.toml").write_text("name =")
    with pytest.raises(DataError, match=r"season\.toml: "):
        read_season(tmp_path / "season.toml")
