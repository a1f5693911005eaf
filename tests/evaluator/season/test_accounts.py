"""Tokens, invitations and sessions, on both databases."""

import threading
from datetime import timedelta

import pytest
import sqlalchemy

from evaluator.core.errors import DataError
from evaluator.season.accounts import INVITATION, INVITED, MAX_TOKENS, PREFIX, SESSION, Accounts
from evaluator.season.ledger import Ledger, Refused
from evaluator.season.organize import Organizer
from tests.support.season import Clock


@pytest.fixture
def accounts(ledger: Ledger) -> Accounts:
    """Of a season with the team Ёжики."""
    return Accounts(ledger)


def test_a_token_lets_its_team_in_and_is_kept_as_a_digest(accounts: Accounts, ledger: Ledger) -> None:
    token, secret = accounts.make("Ёжики", "  ноутбук «Ё» 🦔 ", "Судья")
    assert secret.startswith(PREFIX) and len(secret) > 40 and token.name == "ноутбук «Ё» 🦔"
    holder = accounts.holder(secret)
    assert holder is not None and holder.team is not None
    assert (holder.team.name, holder.token, holder.by) == ("Ёжики", token, "ноутбук «Ё» 🦔, Ёжики")
    assert accounts.holder(secret[:-1]) is None and accounts.holder("") is None and accounts.holder("\udc80") is None
    with ledger.database.read() as connection:
        for table in sqlalchemy.inspect(connection).get_table_names():
            assert secret not in str(connection.exec_driver_sql(f'SELECT * FROM "{table}"').all())


def test_a_revoked_token_and_its_sessions_hold_no_more(accounts: Accounts) -> None:
    token, secret = accounts.make("Ёжики", "ноутбук", "Судья")
    _, other = accounts.make("Ёжики", "сервер", "Судья")
    cookie, others = accounts.sign_in(secret), accounts.sign_in(other)
    assert cookie is not None and others is not None and accounts.session(cookie) is not None
    ended = accounts.revoke(token.id, "ноутбук, Ёжики", "потерян", team="Ёжики")
    assert ended.ended_by == "ноутбук, Ёжики" and ended.ended_at is not None
    assert accounts.holder(secret) is None and accounts.session(cookie) is None and accounts.sign_in(secret) is None
    assert accounts.session(others) is not None
    with pytest.raises(Refused, match=f"token {token.id} has ended already"):
        accounts.revoke(token.id, "Судья", "ещё раз")
    assert [each.ended_by for each in accounts.tokens("Ёжики")] == ["ноутбук, Ёжики", None]


def test_time_ends_tokens_and_sessions(accounts: Accounts, clock: Clock) -> None:
    _, secret = accounts.make("Ёжики", "ноутбук", "Судья", expires_at=clock.now + timedelta(days=2))
    cookie = accounts.sign_in(secret)
    assert cookie is not None
    clock.now += SESSION - timedelta(seconds=1)
    assert accounts.session(cookie) is not None
    clock.now += timedelta(seconds=1)
    assert accounts.session(cookie) is None and accounts.holder(secret) is not None
    fresh = accounts.sign_in(secret)
    assert fresh is not None and fresh != cookie
    clock.now += timedelta(days=2)
    assert accounts.holder(secret) is None and accounts.session(fresh) is None and accounts.sign_in(secret) is None
    with pytest.raises(Refused, match="it would end at once"):
        accounts.make("Ёжики", "ноутбук", "Судья", expires_at=clock.now)


def test_signing_out_ends_that_session_alone(accounts: Accounts) -> None:
    _, secret = accounts.make(None, "Судья", "root")
    first, second = accounts.sign_in(secret), accounts.sign_in(secret)
    assert first is not None and second is not None
    accounts.sign_out(first)
    holder = accounts.session(second)
    assert accounts.session(first) is None and holder is not None and holder.team is None and holder.by == "Судья"


def test_an_invitation_is_used_once_and_is_no_token(accounts: Accounts, clock: Clock) -> None:
    invitation, secret = accounts.make("Ёжики", "для Кота", "ноутбук, Ёжики", clock.now + INVITATION, INVITED)
    assert accounts.holder(secret) is None and accounts.sign_in(secret) is None
    found = accounts.invitation(secret)
    assert found is not None and found.team is not None and found.team.name == "Ёжики"
    token, own = accounts.accept(secret, "Кот")
    assert (token.name, token.by, token.expires_at) == ("Кот", "ноутбук, Ёжики", None)
    holder = accounts.holder(own)
    assert holder is not None and holder.team is not None and holder.team.name == "Ёжики"
    assert accounts.invitation(secret) is None
    with pytest.raises(Refused, match="was used"):
        accounts.accept(secret, "Пёс")
    _, late = accounts.make("Ёжики", "для Пса", "Судья", clock.now + INVITATION, INVITED)
    clock.now += INVITATION
    with pytest.raises(Refused, match="has expired"):
        accounts.accept(late, "Пёс")
    assert [each.kind for each in accounts.tokens("Ёжики")] == ["invitation", "token", "invitation"]
    assert accounts.tokens(None) == [] and invitation.holds(clock.now) is False


def test_two_who_use_an_invitation_at_once(accounts: Accounts, clock: Clock) -> None:
    _, secret = accounts.make("Ёжики", "для одного", "Судья", clock.now + INVITATION, INVITED)
    said: list[str] = []
    begin = threading.Barrier(4)

    def accept(name: str) -> None:
        begin.wait()
        try:
            said.append(accounts.accept(secret, name)[0].name)
        except Refused:
            said.append("refused")

    threads = [threading.Thread(target=accept, args=(f"Кот {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said.count("refused") == 3


def test_a_token_is_of_what_its_team_is_now(accounts: Accounts, ledger: Ledger) -> None:
    ledger.add_team("Ежата")
    token, secret = accounts.make("Ежата", "ноутбук", "Судья")
    Organizer(ledger, "Судья").merge("Ежата", "Ёжики", "одна команда")
    holder = accounts.holder(secret)
    assert holder is not None and holder.team is not None and holder.team.name == "Ёжики"
    assert [each.id for each in accounts.tokens("Ёжики")] == [token.id]
    accounts.revoke(token.id, "ноутбук, Ёжики", "не нужен", team="Ёжики")


def test_no_team_reaches_anothers_tokens(accounts: Accounts, ledger: Ledger) -> None:
    ledger.add_team("Коты")
    token, _ = accounts.make("Ёжики", "ноутбук", "Судья")
    organizers, _ = accounts.make(None, "Судья", "root")
    for id in (token.id, organizers.id, 99):
        with pytest.raises(Refused, match=f"^there is no token {id}$"):
            accounts.revoke(id, "Кот, Коты", "чужой", team="Коты")
    with pytest.raises(Refused, match="there is no team"):
        accounts.make("Нет таких", "ноутбук", "Судья")


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\x00", "ё" * 101, "\u202eabc"])
def test_names_that_are_none(accounts: Accounts, name: str) -> None:
    with pytest.raises(DataError, match="must be"):
        accounts.make("Ёжики", name, "Судья")


def test_a_team_has_only_so_many(accounts: Accounts) -> None:
    made = [accounts.make("Ёжики", f"№ {number}", "Судья")[0] for number in range(MAX_TOKENS)]
    with pytest.raises(Refused, match="revoke those that nobody uses"):
        accounts.make("Ёжики", "ещё", "Судья")
    accounts.make(None, "Судья", "root")
    accounts.revoke(made[0].id, "Судья", "не нужен")
    accounts.make("Ёжики", "ещё", "Судья")
