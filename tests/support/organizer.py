"""An organizer's desk in a service that runs in a thread."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import uvicorn

from evaluator.season.accounts import Accounts
from evaluator.season.changes import Change
from evaluator.season.config import Season
from evaluator.season.ledger import Ledger
from evaluator.web.app import make_app
from tests.support.workers import SECONDS

WHO, WHY = "Судья Ёлкина", "так решило жюри 🦔"
API = "/api/v1/organizer"
CAT, HEDGEHOGS = "Кот «Учёный»", "Ёжики"


class Desk:
    """An organizer's program, and the ledger beside it."""

    def __init__(self, url: str, ledger: Ledger) -> None:
        self.url, self.ledger = url, ledger
        self.accounts = Accounts(ledger)
        self.token = self.accounts.make(None, WHO, "root")[1]
        self.client = self.caller(self.token)

    def caller(self, token: str | None) -> httpx2.Client:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=SECONDS, trust_env=False)

    def ask(self, path: str, **said: Any) -> httpx2.Response:
        return self.client.post(f"{API}/{path}", json={"reason": WHY} | said)

    def do(self, path: str, **said: Any) -> Any:
        answer = self.ask(path, **said)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def change(self, path: str, **said: Any) -> Change:
        """Do something that is a change, and see it entered."""
        found = self.do(path, **said)
        entered = self.ledger.changes()[-1]
        assert found["change"]["id"] == entered.id and found["change"]["in_force"]
        assert (entered.by, entered.reason) == (WHO, WHY)
        return entered

    def get(self, path: str, **query: Any) -> Any:
        answer = self.client.get(f"{API}/{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, path: str, status: int, **said: Any) -> str:
        answer = self.ask(path, **said)
        assert answer.status_code == status and answer.headers["content-type"] == "application/problem+json"
        return str(answer.json()["detail"])


@contextlib.contextmanager
def serving(season: Season) -> Iterator[str]:
    """The service in a thread: the season's address."""
    server = uvicorn.Server(uvicorn.Config(make_app(season.path), port=0, log_config=None, lifespan="on", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
