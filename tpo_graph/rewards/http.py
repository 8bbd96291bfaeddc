"""`Endpoint`: JSON requests to one reward server, for the back ends that ask one.

Requests of one event loop share a client; each endpoint bounds how many are under way. What passes
(429, 5xx, a lost connection, a timeout) is retried a few times; what stays is one clear error.
"""

import json
import math
import re
import time
from base64 import b64encode
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, cast
from urllib.parse import unquote

import httpx2
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from tpo_graph.errors import ConfigurationError, RewardError, RewardInputError
from tpo_graph.models.connection import clean_key
from tpo_graph.models.failures import one_line
from tpo_graph.models.loops import http_client
from tpo_graph.redaction import AMBIGUOUS, is_ambiguous
from tpo_graph.rewards.together import Slots

_LONGEST_WAIT = 60.0
"""Seconds; a server that asks for more is not waited for."""
_PASSING = (408, 425, 429)
_TOO_LONG = re.compile(
    r"context[ _]length|max_model_len|(?:maximum|max)[\w ]{0,24} length|too (?:long|many tokens)"
    r"|longer than|exceeds?\b.{0,40}\btokens",
    re.IGNORECASE,
)
_FIXES = {
    401: "Check the API key.",
    403: "Check that the API key may use this model.",
    404: "Check the address and the model's name, and that the server serves a reward model.",
    429: "It stays over its limit: run fewer at once, or retry later.",
}


class MissingRouteError(RewardError):
    """The server knows no such path."""


class Endpoint:
    """A server's address, and how to talk to it.

    Args:
        url: base URL; a user and password in it become basic authentication and are never shown.
        api_key: sent as a bearer token, unless the URL has credentials.
        max_concurrency: most requests under way at once, per event loop.
        timeout: seconds that one request may take.
        retries: how often a request that failed in passing is sent again.
        backoff: seconds before the first retry; they double each time.
        headers: more headers of every request; their values are never shown.
        extra_body: more fields of every request's body.

    Raises:
        ConfigurationError: no usable URL or key.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        max_concurrency: int = 32,
        timeout: float = 1800.0,
        retries: int = 4,
        backoff: float = 0.5,
        headers: Mapping[str, str] | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        self.url, user, secrets = _address(url)
        api_key = api_key and clean_key(api_key, f"the key of {self.url!r}")
        more = {name: str(value).strip() for name, value in (headers or {}).items()}
        self._secrets = [*secrets, *([api_key] if api_key else []), *more.values()]
        self._headers = {"Content-Type": "application/json", **more}
        self._extra_body = dict(extra_body or {})
        if user or api_key:
            self._headers["Authorization"] = f"Basic {user}" if user else f"Bearer {api_key}"
        self._slots = Slots(max_concurrency)
        self._timeout = timeout
        self._retries = retries
        self._wait = wait_exponential(backoff, _LONGEST_WAIT) + wait_random(0, backoff)

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON reply to a request.

        Raises:
            MissingRouteError: the server has no such path.
            RewardInputError: the server says that the text is too long.
            RewardError: anything else, after the retries where they make sense.
        """
        content = json.dumps({**body, **self._extra_body}).encode()
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(_Passing),
            wait=self._pause,
            stop=stop_after_attempt(self._retries + 1),
            reraise=True,
        )
        try:
            return await attempts(self._once, path, content)
        except _Passing as passing:
            tries = attempts.statistics.get("attempt_number", 1)
            times = "" if tries == 1 else f" {tries} times"
            raise RewardError(
                f"the reward server {self.url + path!r} failed{times}: {passing} {passing.fix}"
            ) from passing.cause or passing

    async def _once(self, path: str, content: bytes) -> Any:
        client = await http_client()
        async with self._slots.here():
            try:
                response = await client.post(
                    self.url + path,
                    content=content,
                    headers=self._headers,
                    timeout=self._timeout,
                    follow_redirects=False,
                )
            except httpx2.TimeoutException as error:
                fix = "Give it more time, or run fewer at once."
                raise _Passing(f"no reply within {self._timeout:g} s.", fix, error) from error
            except httpx2.TransportError as error:
                fix = "Is the server running, and is its address right?"
                raise _Passing(f"{self._clean(error)}.", fix, error) from error
        if response.status_code >= 500 or response.status_code in _PASSING:
            fix = _FIXES.get(response.status_code, "See the server's log, then retry.")
            told = f"status {response.status_code}, {self._account(response)!r}."
            passing = _Passing(told, fix, None, _retry_after(response), response.status_code)
            if passing.after > _LONGEST_WAIT:
                raise RewardError(
                    f"the reward server {self.url + path!r} asks clients to wait for "
                    f"{passing.after:.0f} s: {told} Retry later."
                ) from passing
            raise passing
        if response.status_code != 200:
            raise self._permanent(path, response)
        try:
            return response.json()
        except ValueError as error:
            raise RewardError(
                f"the reward server {self.url + path!r} sent something else than JSON: "
                f"{self._clean(response.text)!r}. Is this the address of a reward server?"
            ) from error

    def _permanent(self, path: str, response: httpx2.Response) -> RewardError:
        status, account = response.status_code, self._account(response)
        head = f"the reward server {self.url + path!r} refused with status {status}: {account!r}."
        if status == 404 and _body(response) in ({"detail": "Not Found"}, {}):
            return MissingRouteError(f"{head} {_FIXES[404]}")
        if status in (400, 413, 422) and _TOO_LONG.search(account):
            return RewardInputError(
                f"{head} Lower max_tokens, shorten the conversation, or serve the model with a "
                "longer context."
            )
        return RewardError(f"{head} {_FIXES.get(status, 'See the server message.')}")

    def _account(self, response: httpx2.Response) -> str:
        """What the server itself says went wrong."""
        body = _body(response)
        inner: object = body.get("error", body)
        if isinstance(inner, dict):
            fields = cast("dict[str, Any]", inner)
            inner = fields.get("message") or fields.get("detail") or fields
        return self._clean(inner if body and inner else response.text)

    def _clean(self, told: object) -> str:
        return one_line(str(told) or type(told).__name__, self._secrets)

    def _pause(self, state: RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome else None
        return max(self._wait(state), failure.after if isinstance(failure, _Passing) else 0.0)


class _Passing(Exception):  # noqa: N818 - says what kind of failure, and never leaves this file
    """A failure that a retry may fix."""

    def __init__(
        self,
        told: str,
        fix: str,
        cause: Exception | None = None,
        after: float = 0.0,
        status_code: int | None = None,
    ) -> None:
        super().__init__(told)
        self.fix = fix
        self.cause = cause
        self.after = after
        """Seconds that the server asked to wait."""
        self.status_code = status_code


def _address(url: str) -> tuple[str, str, list[str]]:
    """The URL without its credentials, these for basic authentication, and what not to show."""
    if is_ambiguous(str(url)):
        raise ConfigurationError(f"the reward server's address {AMBIGUOUS}")
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError, ValueError) as error:
        # Not shown and not kept: a password may stand in it.
        raise ConfigurationError(_NO_URL) from None if "@" in url else error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        shown = "" if "@" in url else f", not {url!r}"
        raise ConfigurationError(_NO_URL + shown)
    plain = parsed.copy_with(username=None, password=None, query=None, fragment=None)
    base = str(plain).rstrip("/").removesuffix("/v1")
    if not parsed.userinfo:
        return base, "", []
    user, password = unquote(parsed.username), unquote(parsed.password)
    encoded = b64encode(f"{user}:{password}".encode()).decode()
    return base, encoded, [encoded, password or user]


_NO_URL = "a reward server's address is a URL such as 'http://localhost:8000'"


def _body(response: httpx2.Response) -> dict[str, Any]:
    try:
        body: object = response.json()
    except ValueError:
        return {}
    return cast("dict[str, Any]", body) if isinstance(body, dict) else {}


def _retry_after(response: httpx2.Response) -> float:
    given = response.headers.get("Retry-After", "").strip()
    if not given:
        return 0.0
    try:
        seconds = float(given)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(given).timestamp() - time.time()
        except ValueError:
            return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0
