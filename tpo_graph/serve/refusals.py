"""Errors as clients of OpenAI's API expect them: a status, and one object that says what is wrong.

Whatever ends a request without an answer becomes a `Refusal` here. Nothing secret reaches it.
"""

import math
from typing import Any

from tpo_graph.errors import (
    ConfigurationError,
    PolicyError,
    RewardError,
    RunBusyError,
    RunNotFoundError,
    ServerAwayError,
    StoreError,
    TPOError,
)
from tpo_graph.models.failures import is_overflow, status_of
from tpo_graph.redaction import redacted

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    409: "conflict_error",
    429: "rate_limit_error",
}


class Refusal(Exception):  # noqa: N818
    """A request that gets no answer.

    Args:
        status: HTTP status.
        message: what is wrong, and what to do about it.
        param: the field of the request that is at fault.
        code: OpenAI's word for it, where it has one.
        retry_after: seconds after which the same request may succeed.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """Of the reply."""
        found: dict[str, str] = {}
        if self.retry_after is not None:
            found["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        if self.status == 401:
            found["WWW-Authenticate"] = "Bearer"
        return found

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        default = "invalid_request_error" if self.status < 500 else "server_error"
        error = {
            "message": redacted(str(self)),
            "type": _TYPES.get(self.status, default),
            "param": self.param,
            "code": self.code,
        }
        return {"error": error}


def invalid(message: str, param: str | None = None, code: str | None = None) -> Refusal:
    """A request that is wrong in itself."""
    return Refusal(400, message, param=param, code=code)


def stopped() -> Refusal:
    """What those hear whose run was stopped."""
    return Refusal(
        503,
        "the server is shutting down. Send the same request again: a stored run resumes where it "
        "was.",
        retry_after=5,
    )


def other_request() -> Refusal:
    """What somebody hears who uses an Idempotency-Key twice."""
    return Refusal(
        422,
        "this Idempotency-Key was used with another request. Give each request its own.",
        code="idempotency_key_reused",
    )


def refusal(error: BaseException) -> Refusal:
    """What the client is told of an error in a run, or in a call of the base model."""
    if isinstance(error, Refusal):
        return error
    status = status_of(error)
    overflow = next((e for e in _chain(error) if is_overflow(e)), None)
    if overflow is not None:
        return invalid(_told(error), "messages", "context_length_exceeded")
    if status == 429:
        return Refusal(429, _told(error), code="rate_limit_exceeded", retry_after=_wait(error))
    if isinstance(error, ServerAwayError):
        return Refusal(503, _told(error), retry_after=30)
    if isinstance(error, RunBusyError):
        return Refusal(409, _told(error), retry_after=30)
    if isinstance(error, RunNotFoundError):
        return Refusal(404, _told(error))
    if isinstance(error, StoreError):
        return Refusal(503, _told(error), retry_after=5)
    if isinstance(error, PolicyError | RewardError) or not isinstance(error, TPOError):
        # The server's own key or address is at fault with 401, 403 and 404, not the client's.
        if status in (400, 413, 422):
            return invalid(_told(error))
        if status is not None or isinstance(error, TPOError):
            return Refusal(502, _told(error))
    if isinstance(error, ConfigurationError):
        return Refusal(500, _told(error))
    return Refusal(500, "an error inside the server; its log has the details.")


def _told(error: BaseException) -> str:
    return " ".join(str(error).split())


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__
    return found


def _wait(error: BaseException) -> float:
    """Seconds that the model's server asked to wait."""
    for each in _chain(error):
        headers: Any = getattr(getattr(each, "response", None), "headers", None)
        try:
            seconds = float(headers["retry-after"])
        except (TypeError, KeyError, ValueError):
            continue
        if math.isfinite(seconds):
            return seconds
    return 10.0
