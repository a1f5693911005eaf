"""Uploads over HTTP, to the service in a process of its own: tus, header by header, and whatever goes wrong."""

import concurrent.futures
import contextlib
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from evaluator.season.organize import Organizer
from evaluator.season.store import Store, digest
from evaluator.web.protocol import UPLOADS
from evaluator.web.receiving import MAX_UNDER_WAY
from tests.support.serving import Service, Tus, encoded, status
from tests.support.uploads import TEAMS, open_again, pieces, served_season, sha256, zipped
from tests.support.workers import wait

SEED = 23
VERSION = {"Tus-Resumable": "1.0.0"}
METHODS = ("POST", "HEAD", "PATCH", "DELETE")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("served")
    served = Service(served_season(folder / "season", limits='archive = "20MB"'), folder / "log").start()
    yield served
    served.end()


@pytest.fixture(scope="module")
def tokens(service: Service) -> list[str]:
    return [service.token(team) for team in TEAMS]


@pytest.fixture
def tus(service: Service, tokens: list[str]) -> Iterator[Tus]:
    """The first team, which has no uploads under way."""
    caller = service.tus(tokens[0])
    yield caller
    for upload in caller.client.get(UPLOADS).json():
        caller.client.delete(f"{UPLOADS}/{upload['id']}")


@pytest.fixture
def other(service: Service, tokens: list[str]) -> Iterator[Tus]:
    caller = service.tus(tokens[1])
    yield caller
    for upload in caller.client.get(UPLOADS).json():
        caller.client.delete(f"{UPLOADS}/{upload['id']}")


@pytest.fixture
def make_service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Serves a season of its own."""
    with contextlib.ExitStack() as stack:

        def make(**given: Any) -> Service:
            made = Service(served_season(tmp_path / "season", **given), tmp_path / "log")
            stack.callback(made.end)
            return made.start()

        yield make


# --- tus ---


def test_a_whole_upload_in_pieces_of_any_size(service: Service, tus: Tus) -> None:
    content, chance = zipped("ответ", 300_000), random.Random(SEED)
    made = tus.create(content, name="Ёж «финал».zip")
    assert made.status_code == 201 and made.headers["Upload-Offset"] == "0"
    expires = parsedate_to_datetime(made.headers["Upload-Expires"]).timestamp()
    assert time.time() + 23 * 3600 < expires
    place, offset = made.headers["Location"], 0
    for piece in pieces(content, chance, 12):
        at = tus.client.head(place)
        assert at.headers["Upload-Offset"] == str(offset) and at.headers["Upload-Length"] == str(len(content))
        assert at.headers["Upload-Metadata"] == encoded(filename="Ёж «финал».zip", sha256=sha256(content))
        assert at.headers["Cache-Control"] == "no-store" and at.headers["Tus-Resumable"] == "1.0.0"
        assert tus.client.get(place).json()["offset"] == offset
        sent = tus.patch(place, offset, piece)
        offset += len(piece)
        assert sent.status_code == 204 and sent.headers["Upload-Offset"] == str(offset)
        assert ("Upload-Expires" in sent.headers) == (offset < len(content))
    ended = tus.ended(place)
    assert (ended["state"], ended["is_new"], ended["verdict"]) == ("accepted", True, "OK")
    assert ended["archive"]["files"] == 3 and ended["name"] == "Ёж «финал».zip"
    assert digest(Store(service.season.folder).archive(sha256(content))) == sha256(content)
    ledger = open_again(service.season)
    state = next(state for state in ledger.states(TEAMS[0]) if state.submission.id == ended["submission"])
    assert state.submission.name == "Ёж «финал».zip" and state.kind == "queued"
    assert state.detail["by"] == f"command line, {TEAMS[0]}"


def test_what_is_spoken_is_said_to_anybody(service: Service) -> None:
    with httpx2.Client(base_url=service.url, trust_env=False) as client:
        answer = client.options(UPLOADS)
    assert answer.status_code == 204 and answer.headers["Tus-Version"] == "1.0.0"
    assert answer.headers["Tus-Extension"] == "creation,checksum,expiration,termination"
    assert answer.headers["Tus-Checksum-Algorithm"] == "sha256,sha1"
    assert answer.headers["Tus-Max-Size"] == "20000000"


@pytest.mark.parametrize("version", [None, "0.2.2", "1.0.0, 2.0.0"])
def test_another_version_is_refused(tus: Tus, version: str | None) -> None:
    place = tus.place(zipped("версия", 5000))
    del tus.client.headers["Tus-Resumable"]
    headers = {} if version is None else {"Tus-Resumable": version}
    for method in METHODS:
        answer = tus.client.request(method, UPLOADS if method == "POST" else place, headers=headers)
        assert answer.status_code == 412 and answer.headers["Tus-Version"] == "1.0.0"
        assert answer.headers["Tus-Resumable"] == "1.0.0"
    tus.client.headers["Tus-Resumable"] = "1.0.0"
    assert tus.offset(place) == 0


GOOD = encoded(filename="a.zip", sha256="a" * 64)


@pytest.mark.parametrize(
    "headers, expected",
    [
        ({"Upload-Metadata": GOOD}, 400),
        ({"Upload-Metadata": GOOD, "Upload-Length": "-1"}, 400),
        ({"Upload-Metadata": GOOD, "Upload-Length": "+1"}, 400),
        ({"Upload-Metadata": GOOD, "Upload-Length": "1e3"}, 400),
        ({"Upload-Metadata": GOOD, "Upload-Length": "0"}, 400),
        ({"Upload-Metadata": GOOD, "Upload-Length": "9" * 40}, 400),
        ({"Upload-Metadata": GOOD, "Upload-Defer-Length": "1"}, 400),
        ({"Upload-Metadata": GOOD, "Upload-Length": "20000001"}, 413),
        ({"Upload-Length": "100"}, 400),
        ({"Upload-Length": "100", "Upload-Metadata": encoded(filename="a.zip")}, 400),
        ({"Upload-Length": "100", "Upload-Metadata": encoded(sha256="a" * 63)}, 400),
        ({"Upload-Length": "100", "Upload-Metadata": encoded(sha256="ё" * 64)}, 400),
        ({"Upload-Length": "100", "Upload-Metadata": encoded(sha256="../../../etc/passwd")}, 400),
        ({"Upload-Length": "100", "Upload-Metadata": "sha256 %%%"}, 400),
        ({"Upload-Length": "100", "Upload-Metadata": f"{GOOD},sha256 YQ=="}, 400),
        ({"Upload-Length": "100", "Upload-Metadata": f"{GOOD}, ,"}, 400),
        ({"Upload-Length": "100", "Upload-Metadata": f"{GOOD},{'x' * 40_000} YQ=="}, 400),
    ],
)
def test_a_creation_that_is_none(tus: Tus, headers: dict[str, str], expected: int) -> None:
    answer = tus.client.post(UPLOADS, headers=headers)
    assert answer.status_code == expected and tus.client.get(UPLOADS).json() == []


@pytest.mark.parametrize(
    "name, expected",
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Работа\\итог.zip", "итог.zip"),
        ("a\0b\n\x1b[31mc.zip", "ab[31mc.zip"),
        ("\u202egpj.zip", "gpj.zip"),
        (b"\xff\xfe.zip", "��.zip"),
        ("", "submission.zip"),
        ("..", ".."),
        ("/", "submission.zip"),
        ("ё" * 1000, "ё" * 200),
        ("<script>🐈</script>", "script>"),
    ],
)
def test_a_name_does_nothing(service: Service, tus: Tus, name: str | bytes, expected: str) -> None:
    made = tus.create(zipped("имя", 100), name=name)
    assert made.status_code == 201 and made.json()["name"] == expected
    folders = {path.name for path in (service.season.folder / "uploads").iterdir() if path.is_dir()}
    assert all(len(folder) == 32 for folder in folders) and made.json()["id"] in folders


def test_a_piece_that_is_none(tus: Tus) -> None:
    content = zipped("кусок", 20_000)
    place = tus.place(content)
    assert tus.patch(place, 0, content[:1000]).status_code == 204
    kind = {"Content-Type": "application/offset+octet-stream"}
    at = {"Upload-Offset": "1000"}
    wrong: list[tuple[dict[str, str], int]] = [
        (at | {"Content-Type": "application/octet-stream"}, 415),
        (at, 415),
        (kind, 400),
        (kind | {"Upload-Offset": "-1"}, 400),
        (kind | {"Upload-Offset": "0"}, 409),
        (kind | {"Upload-Offset": "999"}, 409),
        (kind | {"Upload-Offset": "1001"}, 409),
        (kind | at | {"Upload-Checksum": "md5 YQ=="}, 400),
        (kind | at | {"Upload-Checksum": "sha1 YQ=="}, 400),
        (kind | at | {"Upload-Checksum": "sha1 %%%"}, 400),
        (kind | at | {"Upload-Checksum": "sha1 " + "A" * 27 + "="}, 460),
        (kind | at | {"Upload-Checksum": "sha256 " + "A" * 43 + "="}, 460),
    ]
    for headers, expected in wrong:
        answer = tus.client.patch(place, content=content[1000:2000], headers=headers)
        assert answer.status_code == expected, (headers, answer.text)
        assert answer.headers["Tus-Resumable"] == "1.0.0"
        assert tus.offset(place) == 1000
    assert tus.patch(place, 1000, content[1000:] + b"x").status_code == 413  # told by its length
    chunked = tus.client.patch(
        place, content=iter([content[1000:] + b"x"]), headers=kind | at | {"Transfer-Encoding": "chunked"}
    )
    assert chunked.status_code == 413 and tus.offset(place) == 1000


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_checksums(tus: Tus, algorithm: str) -> None:
    """A piece that was damaged is not kept, and the next one counts from where it began."""
    import base64
    import hashlib

    content = zipped(f"сумма {algorithm}", 50_000)
    place = tus.place(content)
    for start, end in ((0, 10_000), (10_000, len(content))):
        piece = content[start:end]
        said = f"{algorithm} {base64.b64encode(hashlib.new(algorithm, piece).digest()).decode()}"
        damaged = piece[:-1] + bytes([piece[-1] ^ 1])
        assert tus.patch(place, start, damaged, Upload_Checksum=said).status_code == 460
        assert tus.offset(place) == start
        assert tus.patch(place, start, piece, Upload_Checksum=said).status_code == 204
    assert tus.ended(place)["state"] == "accepted"


def test_termination_and_other_methods(service: Service, tus: Tus) -> None:
    content = zipped("конец", 5000)
    place = tus.place(content)
    over = {"X-HTTP-Method-Override": "PATCH", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    assert tus.client.post(place, content=content[:100], headers=over).headers["Upload-Offset"] == "100"
    assert tus.client.post(place, headers={"X-HTTP-Method-Override": "TRACE"}).status_code == 405
    assert tus.client.post(place, headers={"X-HTTP-Method-Override": "DELETE"}).status_code == 204
    assert not (service.season.folder / "uploads" / place.rpartition("/")[2]).exists()
    for method in ("GET", "HEAD", "PATCH", "DELETE"):
        headers = over if method == "PATCH" else {}
        assert tus.client.request(method, place, headers=headers).status_code == 404
    again = tus.create(content)  # is another
    assert again.status_code == 201 and again.headers["Location"] != place
    assert tus.client.delete(again.headers["Location"]).status_code == 204


def test_anothers_upload_is_not_there(tus: Tus, other: Tus) -> None:
    content = zipped("чужое", 5000)
    place, nowhere = tus.place(content), f"{UPLOADS}/{'0' * 32}"
    headers = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    for method in ("GET", "HEAD", "PATCH", "DELETE"):
        answers = [
            other.client.request(method, path, headers=headers) for path in (place, nowhere, f"{UPLOADS}/..%2fx")
        ]
        assert {answer.status_code for answer in answers} == {404}
        assert answers[0].content == answers[1].content
        assert {key: value for key, value in answers[0].headers.items() if key != "date"} == {
            key: value for key, value in answers[1].headers.items() if key != "date"
        }
    assert other.client.get(UPLOADS).json() == [] and tus.offset(place) == 0
    assert other.place(content) != place  # the same ZIP of another team is an upload of its own


def test_nobody_sends(service: Service) -> None:
    with httpx2.Client(base_url=service.url, headers=VERSION, trust_env=False) as client:
        answer = client.post(UPLOADS, headers={"Upload-Length": "100", "Upload-Metadata": GOOD})
        assert answer.status_code == 401 and answer.headers["Tus-Resumable"] == "1.0.0"
        assert client.get(UPLOADS).status_code == 401


# --- lines that break ---


def test_lines_that_break_at_any_byte(tus: Tus) -> None:
    content, chance = zipped("обрыв", 2_000_000), random.Random(SEED)
    place, offset, furthest = tus.place(content), 0, 0
    for _ in range(15):
        end = chance.randrange(offset, len(content))
        connection = tus.begun(place, offset, len(content) - offset, content[offset:end])
        if chance.random() < 0.5:  # a reset rather than an end
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
        reached, furthest = tus.offset(place), max(furthest, end)
        assert offset <= reached <= furthest
        offset = reached
    while offset < len(content):  # what was sent before may come later than what asked for the offset
        tus.patch(place, offset, content[offset:])
        offset = tus.offset(place)
    assert tus.ended(place)["state"] == "accepted"


def test_a_connection_that_hangs_is_ended_by_the_next(tus: Tus) -> None:
    """Its bytes count, whether the next one asks for the offset first or goes on at once."""
    content = zipped("пауза", 100_000)
    place = tus.place(content)
    dead = tus.begun(place, 0, len(content), content[:30_000])
    wait(lambda: tus.client.get(place).json()["offset"] == 30_000)  # which ends nothing
    assert tus.offset(place) == 30_000
    assert status(dead) == 423
    dead = tus.begun(place, 30_000, len(content) - 30_000, content[30_000:60_000])
    wait(lambda: tus.client.get(place).json()["offset"] == 60_000)
    assert tus.patch(place, 60_000, content[60_000:]).status_code == 204
    assert status(dead) == 423
    assert tus.ended(place)["state"] == "accepted"


def test_endless_and_slow_uploads_block_nobody(service: Service, tus: Tus, other: Tus) -> None:
    held = []
    for number in range(MAX_UNDER_WAY):
        content = zipped(f"медленно {number}", 1_000_000)
        held.append((tus.begun(tus.place(content), 0, len(content), content[:10]), content))
    head = (
        f"PATCH {other.place(zipped('без конца', 1000))} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {other.token}\r\n"
    )
    head += "Tus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nTransfer-Encoding: chunked\r\n"
    head += "Content-Type: application/offset+octet-stream\r\n\r\n"
    endless = socket.create_connection(("127.0.0.1", service.port), timeout=300)
    endless.sendall(head.encode())
    for _, (connection, content) in zip(range(20), held * 7, strict=False):
        with contextlib.suppress(OSError):
            connection.sendall(content[10:11])
    assert other.send(zipped("быстро", 1_000_000))["state"] == "accepted"
    with contextlib.suppress(OSError):
        while True:
            endless.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")
    assert status(endless) in (413, None)  # it said more than it had announced
    stranger = socket.create_connection(("127.0.0.1", service.port), timeout=300)
    stranger.sendall(head.replace(other.token, "fbc_nobody").encode() + b"1\r\nx\r\n")
    assert status(stranger) == 401  # ended, though its body never ends
    for connection, _ in held:
        connection.close()


# --- what becomes of it ---


def test_a_zip_sent_twice_is_one_attempt(service: Service, tus: Tus) -> None:
    content = zipped("дважды", 50_000)
    first = tus.send(content)
    again = tus.create(content)
    assert again.status_code == 200 and again.headers["Upload-Offset"] == str(len(content))
    assert again.json()["submission"] == first["submission"] and again.json()["state"] == "accepted"
    assert tus.client.delete(again.headers["Location"]).status_code == 204
    later = tus.create(content)  # the upload is forgotten, the submission is not
    assert later.status_code == 200 and later.json()["submission"] == first["submission"]
    assert later.json()["is_new"] is False and tus.offset(later.headers["Location"]) == len(content)
    digests = [state.submission.digest for state in open_again(service.season).states(TEAMS[0])]
    assert digests.count(sha256(content)) == 1


def test_a_zip_sent_many_times_at_once_is_one_attempt(service: Service, tus: Tus, other: Tus) -> None:
    """By two teams it is one of each."""
    content = zipped("разом", 400_000)

    def send(caller: Tus) -> int:
        while True:
            made = caller.create(content)
            if made.status_code == 423:
                continue
            place = made.headers["Location"]
            while (asked := caller.client.head(place)).status_code == 423:
                pass
            offset = int(asked.headers["Upload-Offset"])
            if offset < len(content):
                caller.patch(place, offset, content[offset : offset + 150_000])
            else:
                ended = caller.ended(place)
                assert ended["state"] == "accepted"
                submission: int = ended["submission"]
                return submission

    callers = [Tus(each.url, each.token) for each in (tus, other) for _ in range(4)]
    with concurrent.futures.ThreadPoolExecutor(len(callers)) as pool:
        found = list(pool.map(send, callers))
    assert len(set(found[:4])) == len(set(found[4:])) == 1 and found[0] != found[4]
    digests = [state.submission.digest for state in open_again(service.season).states()]
    assert digests.count(sha256(content)) == 2
    assert digest(Store(service.season.folder).archive(sha256(content))) == sha256(content)


def test_a_faulty_zip_is_told_with_its_findings(service: Service, tus: Tus) -> None:
    before = open_again(service.season).attempts(TEAMS[0])
    ended = tus.send("это не архив «ё»".encode() * 100)
    assert (ended["state"], ended["verdict"], ended["fault"]) == ("faulty", "BAD_ZIP", "team")
    assert ended["findings"][0]["rule"] == "archive-format" and ended["fix"] and ended["submission"] is None
    again = tus.create("это не архив «ё»".encode() * 100)
    assert again.status_code == 200 and again.json()["findings"] == ended["findings"]
    assert not (service.season.folder / "uploads" / ended["id"] / "submission.zip").exists()
    ended = tus.send(zipped(code="import json")[:-30])
    assert ended["verdict"] == "BAD_ZIP"
    assert open_again(service.season).attempts(TEAMS[0]) == before


def test_bytes_that_are_not_those_announced_are_no_submission(service: Service, tus: Tus) -> None:
    content = zipped("подмена", 10_000)
    damaged = content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]
    ended = tus.send(damaged, digest=sha256(content))
    assert ended["state"] == "failed" and sha256(damaged) in ended["reason"]
    assert not Store(service.season.folder).archive(sha256(content)).exists()
    assert tus.send(content)["state"] == "accepted"


def test_a_team_has_a_few_uploads_under_way(tus: Tus) -> None:
    places = [tus.place(zipped(f"много {number}", 1000)) for number in range(MAX_UNDER_WAY)]
    answer = tus.create(zipped("ещё", 1000))
    assert answer.status_code == 409 and str(MAX_UNDER_WAY) in answer.json()["detail"]
    assert tus.client.delete(places[0]).status_code == 204
    assert tus.create(zipped("ещё", 1000)).status_code == 201


def test_attempts_are_counted_at_the_beginning_and_at_the_end(make_service: Callable[..., Service]) -> None:
    """What was refused at the end is kept, and is taken without being sent again when there is an attempt."""
    service = make_service(valid_a_day="1")
    tus = service.tus(service.token(TEAMS[0]))
    contents = [zipped(f"попытка {number}", 1000) for number in range(3)]
    places = [tus.place(content) for content in contents[:2]]
    for place, content in zip(places, contents, strict=False):
        assert tus.patch(place, 0, content).status_code == 204
    ended = sorted((tus.ended(place) for place in places), key=lambda upload: upload["state"])
    assert [upload["state"] for upload in ended] == ["accepted", "refused"]
    assert "no attempt left" in ended[1]["reason"]
    for content in contents:
        answer = tus.create(content)
        if sha256(content) == ended[0]["digest"]:
            assert answer.status_code == 200
        else:
            assert answer.status_code == 409 and "no attempt left" in answer.json()["detail"]
    ledger = open_again(service.season)
    Organizer(ledger, "Судья").extend(TEAMS[0], "сбой", None, 1, None)
    refused = next(content for content in contents if sha256(content) == ended[1]["digest"])
    again = tus.create(refused)
    assert again.status_code == 200 and again.headers["Upload-Offset"] == str(len(refused))
    assert tus.ended(again.headers["Location"])["state"] == "accepted"


def test_room_is_kept_on_the_disk(make_service: Callable[..., Service], tmp_path: Path) -> None:
    """For what is there, and for what uploads that were begun will bring."""
    service = make_service(limits='archive = "900000GB"')
    tus = service.tus(service.token(TEAMS[0]))
    free = os.statvfs(tmp_path)
    most = str(free.f_bavail * free.f_frsize * 6 // 10)
    first = tus.create(zipped("первый"), **{"Upload-Length": most})
    assert first.status_code == 201
    second = tus.create(zipped("второй"), **{"Upload-Length": most})
    assert second.status_code == 507 and "no room" in second.json()["detail"]
    assert tus.client.delete(first.headers["Location"]).status_code == 204
    assert tus.create(zipped("второй"), **{"Upload-Length": most}).status_code == 201


def test_a_disk_that_is_full_takes_nothing(make_service: Callable[..., Service]) -> None:
    service = make_service(web=("keep_free_gb = 1000000",))
    tus = service.tus(service.token(TEAMS[0]))
    assert tus.create(zipped()).status_code == 507 and tus.client.get(UPLOADS).json() == []


def test_what_rests_too_long_is_forgotten(make_service: Callable[..., Service]) -> None:
    service = make_service(web=("keep_free_gb = 0", "upload_hours = 2"))
    tus = service.tus(service.token(TEAMS[0]))
    content = zipped("забыто", 10_000)
    resting, fresh = tus.place(content), tus.place(zipped("свежее", 10_000))
    assert tus.patch(resting, 0, content[:5000]).status_code == 204
    done = tus.send(b"x" * 100)
    service.kill()
    folder = service.season.folder / "uploads"
    old = time.time() - 2 * 3600 - 60
    os.utime(folder / resting.rpartition("/")[2] / "submission.zip", (old, old))
    os.utime(folder / done["id"] / "result.json", (old, old))
    (folder / ("f" * 32)).mkdir()  # killed while it was made
    service.start()
    assert [upload["id"] for upload in tus.client.get(UPLOADS).json()] == [fresh.rpartition("/")[2]]
    assert tus.client.head(resting).status_code == 404
    wait(lambda: [path.name for path in folder.iterdir() if path.is_dir()] == [fresh.rpartition("/")[2]])


def test_a_season_has_one_service(make_service: Callable[..., Service]) -> None:
    service = make_service()
    beside = Service(service.season, service.season.folder / "log")
    with pytest.raises(AssertionError, match="another process takes uploads"):
        beside.start()
    assert beside.process is not None and beside.process.wait(300) == 2
    assert service.tus(service.token(TEAMS[0])).send(zipped())["state"] == "accepted"
    assert service.stop() == 0
