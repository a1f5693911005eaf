"""The Caddyfile and the nginx.conf of docs/examples/ before the real service: what it believes of callers, uploads and
events, which come as they are sent.
"""

import base64
import hashlib
import http.client
import json
import os
import random
import re
import shutil
import ssl
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import httpx2
import pytest

from evaluator.season.database import Database
from evaluator.season.ledger import Ledger
from evaluator.web.limiting import GUESSES
from tests.support.season import write_season
from tests.support.serving import Service
from tests.support.workers import ROOT, SECONDS, wait

EXAMPLES = ROOT / "docs" / "examples" / "serving"
SEARCHED = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
NAME, UPSTREAM = "fbc.example.org", "127.0.0.1:8000"
PORT, PLAIN_PORT = 8443, 8080
TEAM = "Ёжики «№ 1» 🦔"
CONTENT = "application/offset+octet-stream"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("proxied")
    url = "sqlite:///season.sqlite3"
    season = write_season(
        folder / "season", url, start="2020-01-01", end="2100-01-01", choose_until="2100-01-02", valid_a_day="1000"
    )
    database = Database(season.url, season.folder)
    database.migrate()
    Ledger(season, database).add_team(TEAM)
    database.engine.dispose()
    with open(season.path, "a", encoding="utf-8") as rules:
        rules.write("\n[web]\nkeep_free_gb = 0\n")
    served = Service(season, folder / "service.log").start()
    yield served
    served.end()


class Proxy:
    """A proxy at an address of its own: the whole of 127.0.0.0/8 is this machine."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self.address = name, address
        self.url = f"https://{address}:{PORT}"

    def client(self, own_address: str = "127.0.0.1") -> httpx2.Client:
        """A caller who does not know the proxy's certificate."""
        transport = httpx2.HTTPTransport(verify=False, local_address=own_address)
        return httpx2.Client(base_url=self.url, transport=transport, timeout=SECONDS)


def _some_address() -> str:
    """One that no other test has."""
    return f"127.{random.randint(1, 254)}.{random.randint(0, 255)}.{random.randint(1, 254)}"


def _run(*command: str | Path, folder: Path) -> None:
    environment = os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr


def _caddy(folder: Path, address: str, upstream: str) -> tuple[list[str], list[str]]:
    """The commands that check a Caddyfile, and start it: with certificates of its own, and nothing else it would
    make or fetch.
    """
    caddy = shutil.which("caddy", path=SEARCHED)
    if caddy is None:
        pytest.skip("caddy is not here (Debian: caddy)")
    text = (EXAMPLES / "Caddyfile").read_text(encoding="utf-8")
    assert text.count(NAME) == 1 and text.count(UPSTREAM) == 1 and text.count("\n{\n") == 1
    # Without `bind` it would listen at all addresses, other tests' among them.
    text = text.replace(f"{NAME} {{\n", f"https://{address}:{PORT} {{\n\tbind {address}\n").replace(UPSTREAM, upstream)
    own = ("admin off", "local_certs", "skip_install_trust", "auto_https disable_redirects")
    options = "".join(f"\t{line}\n" for line in (*own, f"storage file_system {folder}"))
    (folder / "Caddyfile").write_text(text.replace("\n{\n", f"\n{{\n{options}"), encoding="utf-8")
    rest = ["--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
    return [caddy, "validate", *rest], [caddy, "run", *rest]


def _nginx(folder: Path, address: str, upstream: str) -> tuple[list[str], list[str]]:
    """As `_caddy`. What Debian's own nginx.conf has around it, this one has, too, as far as it needs it."""
    nginx, openssl = (shutil.which(program, path=SEARCHED) for program in ("nginx", "openssl"))
    if nginx is None or openssl is None:
        pytest.skip("nginx or openssl is not here (Debian: nginx-light, openssl)")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    _run(openssl, *request, "-subj", f"/CN={NAME}", "-keyout", key, "-out", certificate, folder=folder)
    text = (EXAMPLES / "nginx.conf").read_text(encoding="utf-8")
    for pattern, new, count in (
        (r"listen \[::\]:\d+.*;", "", 2),
        (r"listen 443 ", f"listen {address}:{PORT} ", 1),
        (r"listen 80;", f"listen {address}:{PLAIN_PORT};", 1),
        (r"/etc/letsencrypt/live/.*/fullchain.pem", str(certificate), 1),
        (r"/etc/letsencrypt/live/.*/privkey.pem", str(key), 1),
        (re.escape(UPSTREAM), upstream, 1),
    ):
        text, found = re.subn(pattern, new, text)
        assert found == count, pattern
    (folder / "fbc.conf").write_text(text, encoding="utf-8")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi"))
    (folder / "nginx.conf").write_text(
        f"{'user root;' if os.geteuid() == 0 else ''} daemon off; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; scgi_temp_path {folder}/scgi; {temporary} include {folder}/fbc.conf; }}\n",
        encoding="utf-8",
    )
    command = [nginx, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    return [*command, "-t"], command


@pytest.fixture(scope="module", params=["caddy", "nginx"])
def proxy(
    request: pytest.FixtureRequest, service: Service, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    folder, found = tmp_path_factory.mktemp(request.param), Proxy(request.param, _some_address())
    kinds = {"caddy": _caddy, "nginx": _nginx}
    check, command = kinds[request.param](folder, found.address, f"127.0.0.1:{service.port}")
    _run(*check, folder=folder)
    environment = os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with open(folder / "log", "wb") as log, _ended(command, log, environment) as process:

        def answers() -> bool:
            assert process.poll() is None, (folder / "log").read_text(errors="replace")
            try:
                with found.client() as client:
                    return client.get("/api/v1/season").status_code == 200
            except httpx2.TransportError:
                return False

        wait(answers)
        yield found


class _ended(subprocess.Popen[bytes]):
    """A process that is ended with its block."""

    def __init__(self, command: list[str], log: IO[bytes], environment: dict[str, str]) -> None:
        super().__init__(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)

    def __exit__(self, *_: object) -> None:
        self.terminate()
        self.wait(SECONDS)


def test_the_service_hears_of_tls(proxy: Proxy, service: Service) -> None:
    """By the header that no caller can say itself: one HSTS, and none without a proxy before it."""
    with proxy.client() as client:
        answer = client.get("/api/v1/season", headers={"X-Forwarded-Proto": "http"})
    assert [value for name, value in answer.headers.multi_items() if name == "strict-transport-security"] == [
        "max-age=31536000"
    ]
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "strict-transport-security" not in httpx2.get(f"{service.url}/api/v1/season", trust_env=False).headers


def test_a_session_is_of_this_host_and_of_tls(proxy: Proxy, service: Service) -> None:
    token = service.token(TEAM)
    with proxy.client() as client:
        signed_in = client.post("/signin", data={"token": token})
        assert signed_in.status_code == 303, signed_in.text
        cookie = signed_in.headers["Set-Cookie"]
        assert cookie.startswith("__Host-fbc=")
        assert {"httponly", "secure", "samesite=strict", "path=/"} <= {
            part.strip().lower() for part in cookie.split(";")
        }
        name, _, value = cookie.partition(";")[0].partition("=")
        seen = client.get("/api/v1/me", headers={"Cookie": f"{name}={value}"})
    assert seen.json()["team"] == TEAM


def test_each_caller_has_limits_of_his_own(proxy: Proxy) -> None:
    """Whatever address he claims to have."""
    guesser, other = _some_address(), _some_address()
    for _ in range(GUESSES.amount):
        assert _guess(proxy, guesser) == 401
    assert _guess(proxy, guesser) == 429
    assert _guess(proxy, guesser, {"X-Forwarded-For": "203.0.113.7", "Forwarded": "for=203.0.113.7"}) == 429
    assert _guess(proxy, other) == 401


def _guess(proxy: Proxy, own_address: str, headers: dict[str, str] | None = None) -> int:
    said = {"Authorization": "Bearer fbc_none"} | (headers or {})
    with proxy.client(own_address) as client:
        return client.get("/api/v1/me", headers=said).status_code


def test_an_upload_passes_as_it_comes(proxy: Proxy, service: Service, tmp_path: Path) -> None:
    """30 MB of which the service has the first half while the second has not been sent: a line that breaks costs what
    was on it, and a proxy's disk nothing.
    """
    path = tmp_path / "посылка.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("metadata.json", json.dumps({"image": "a/b:1", "entrypoint": "python3 run.py"}))
        file.writestr("run.py", "print('ё')")
        file.writestr("weights.bin", random.randbytes(30_000_000))
    data = path.read_bytes()
    half = len(data) // 2
    authorized = {"Authorization": f"Bearer {service.token(TEAM)}", "Tus-Resumable": "1.0.0"}
    digest = base64.b64encode(hashlib.sha256(data).hexdigest().encode()).decode()
    with proxy.client() as client:
        said = {"Upload-Length": str(len(data)), "Upload-Metadata": f"sha256 {digest}"}
        made = client.post("/api/v1/uploads", headers=authorized | said)
        assert made.status_code == 201, made.text
        place = urlsplit(made.headers["Location"]).path

        def upload() -> dict[str, object]:
            found: dict[str, object] = client.get(place, headers=authorized).json()
            return found

        address = urlsplit(proxy.url).netloc
        context = ssl._create_unverified_context()
        with closing(http.client.HTTPSConnection(address, timeout=SECONDS, context=context)) as line:
            line.putrequest("PATCH", place)
            headers = authorized | {"Upload-Offset": "0", "Content-Type": CONTENT, "Content-Length": str(len(data))}
            for name, value in headers.items():
                line.putheader(name, value)
            line.endheaders()
            line.send(data[:half])
            wait(lambda: int(str(upload()["offset"])) >= half - 2**20)  # buffers on the way may keep some
            line.send(data[half:])
            answer = line.getresponse()
            assert (answer.status, answer.headers["Upload-Offset"]) == (204, str(len(data)))
        wait(lambda: upload()["state"] not in ("receiving", "checking"))
        assert upload()["state"] == "accepted", upload()


def test_events_come_when_they_happen(proxy: Proxy) -> None:
    """The first one is there while the answer goes on."""
    with proxy.client() as client:
        found = re.search(r'data-live="([^"]+)"', client.get("/").text)
        assert found
        with client.stream("GET", found[1]) as answer:
            assert answer.headers["Content-Type"].startswith("text/event-stream")
            assert "event: changed" in answer.iter_lines()


def test_nginx_leads_to_tls(proxy: Proxy) -> None:
    """Caddy does of itself, and here it is told not to, as ports below 1024 are not every user's."""
    if proxy.name != "nginx":
        return
    plain = httpx2.get(f"http://{proxy.address}:{PLAIN_PORT}/rules?x=1", headers={"Host": NAME}, trust_env=False)
    assert (plain.status_code, plain.headers["Location"]) == (301, f"https://{NAME}/rules?x=1")
