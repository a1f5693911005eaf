"""How often somebody may call: by token, by address where nobody is signed in, and how often an address may guess."""

import ipaddress
import math
import time

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from evaluator.web.problems import Problem

CALLS = parse("600/minute")  # of a token, or of an address with none
GUESSES = parse("20/minute")  # of tokens, invitations and cookies that are none, of an address
_IPV6_SITE = 64  # bits of an address that one household or machine has


class Limiter:
    """Counts in this process's memory: a season has one service."""

    def __init__(self) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def call(self, token: int | None, address: str) -> None:
        """Count a call. Raises `Problem` 429 where there are too many."""
        key = f"address {site(address)}" if token is None else f"token {token}"
        self._check(CALLS, key, self._limiter.hit(CALLS, key))

    def may_guess(self, address: str) -> None:
        """Raises `Problem` 429 where an address has shown too many secrets that are none."""
        self._check(GUESSES, site(address), self._limiter.test(GUESSES, site(address)))

    def guessed(self, address: str) -> None:
        """Count a secret that is none."""
        self._limiter.hit(GUESSES, site(address))

    def _check(self, item: RateLimitItem, key: str, is_allowed: bool) -> None:
        if not is_allowed:
            wait = max(1, math.ceil(self._limiter.get_window_stats(item, key).reset_time - time.time()))
            raise Problem(
                429, f"too many requests: {item} are allowed; wait {wait} s", headers={"Retry-After": str(wait)}
            )


def site(address: str) -> str:
    """Whose address it is: of IPv6, where everybody has very many, the network."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, _IPV6_SITE), strict=False))
    return str(parsed)
