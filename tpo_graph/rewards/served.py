"""How a served reward model is written: "URL#MODEL", with options in the URL's query.

`vllm:http://localhost:8000?tokenizer=PATH#skywork` names a server, the model by the name
that the server knows, and the folder or hub id of the tokenizer.
"""

import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar, cast
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from tpo_graph.errors import ConfigurationError, RewardError
from tpo_graph.models.connection import options_of
from tpo_graph.redaction import AMBIGUOUS, is_ambiguous
from tpo_graph.rewards.together import keep, together
from tpo_graph.usage import no_usage, spend

T = TypeVar("T")

ROWS = 32
"""Responses in one request of token ids."""


class Served(NamedTuple):
    """A reward model on a server."""

    url: str
    """Base URL; may hold credentials."""
    model: str
    tokenizer: str | None


def parse_served(source: str, scheme: str) -> Served:
    """Take "URL?tokenizer=PATH#MODEL" apart.

    Raises:
        ConfigurationError: no model is named, or there is an option other than `tokenizer`.
    """
    form = f'"{scheme}:http://HOST:PORT#MODEL", or with ?tokenizer=PATH_OR_HUB_ID before the "#"'
    try:
        parts = urlsplit(source)
        options = dict(
            parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        )
    except ValueError:
        # Without the cause: a password may stand in it.
        raise ConfigurationError(f"not the address of a {scheme} server. Write {form}.") from None
    if is_ambiguous(source):
        raise ConfigurationError(f"the address of the {scheme} server {AMBIGUOUS}")
    if not parts.fragment:
        raise ConfigurationError(f"no model is named for the {scheme} server. Write {form}.")
    tokenizer = options.pop("tokenizer", None)
    if options or tokenizer == "":
        raise ConfigurationError(
            f"unknown or empty options {sorted(options) or ['tokenizer']!r} for {scheme}. "
            f"Write {form}."
        )
    url = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
    return Served(url, parts.fragment, tokenizer)


def endpoint_options(source: str, url: str, key: str) -> dict[str, Any]:
    """Arguments of a served reward model, from the options that its name has (`Connected`); the
    server's key from the environment variable `key`, where they have none.

    Raises:
        ConfigurationError: there is no such option.
    """
    options = options_of(source)
    given: dict[str, Any] = {
        "url": options.pop("base_url", url),
        "api_key": options.pop("api_key", os.environ.get(key)),
    }
    names = {
        "timeout": "timeout",
        "max_retries": "retries",
        "max_concurrency": "max_concurrency",
        "default_headers": "headers",
        "extra_body": "extra_body",
    }
    if unknown := sorted(options.keys() - names.keys()):
        raise ConfigurationError(
            f"a reward server has no option {unknown!r}; it has base_url, api_key, api_key_env, "
            f"{', '.join(names)}."
        )
    return given | {names[name]: value for name, value in options.items()}


def spend_request(tokens: object) -> None:
    """Say that a request was made, and how many tokens the server read, if that is known."""
    read = tokens if isinstance(tokens, int) else 0
    spend({**no_usage(), "requests": 1, "prompt_tokens": read})


def unexpected(url: str, reply: object, expected: str) -> RewardError:
    """The error for a reply of another form than documented."""
    shown = repr(reply)
    shown = shown if len(shown) <= 200 else shown[:199] + "…"
    return RewardError(
        f"the reward server {url!r} replied {shown}, not {expected}. Is it a reward model with one "
        "label, and a server of a version that docs/rewards.md names?"
    )


def only_number(row: object) -> float | None:
    """The number in a list of one number; None for anything else."""
    values = cast("list[object]", row) if isinstance(row, list) else []
    number = values[0] if len(values) == 1 else None
    return float(number) if isinstance(number, int | float) else None


async def scored_in_parts(
    ask: Callable[[T], Awaitable[list[float]]],
    parts: Sequence[T],
    responses: Sequence[str],
    size: int = ROWS,
) -> list[float]:
    """All scores, of requests side by side; what each has scored is kept as it ends. Each part is
    asked for the next `size` responses."""

    async def asked(place: int) -> list[float]:
        scores = await ask(parts[place])
        scored = responses[place * size : (place + 1) * size]
        # Not 1.0: `RawScores` may find it to be a squashed score.
        if len(scored) == len(scores) and 1 not in scores:
            keep(scored, scores)
        return scores

    return [score for part in await together(map(asked, range(len(parts)))) for score in part]


class RawScores:
    """Looks whether a server that was asked for logits returns them squashed between 0 and 1.

    A sigmoid hides the differences between good answers, and rounds those of the best to none: the
    first sample would win, and nothing would tell.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self._seen: set[str] = set()
        self._raw = False

    def look(self, responses: Sequence[str], scores: Sequence[float]) -> None:
        """Look at the scores of one call; warns once.

        Raises:
            RewardError: different responses all have exactly 1.0.
        """
        if self._raw:
            return
        if any(not 0 <= score <= 1 for score in scores):
            self._raw = True
            return
        fix = (
            "Its version may not know the option that turns sigmoid or softmax off: use a version "
            "that docs/rewards.md names, and look at the scores with `tpo check --reward-model`."
        )
        if len(set(responses)) > 1 and all(score == 1 for score in scores):
            raise RewardError(
                f"{self._server} gave {len(set(responses))} different responses exactly 1.0, which "
                f"is not a raw score but a squashed one: nothing can be told apart by it. {fix}"
            )
        self._seen |= set(responses)
        if len(self._seen) >= _TELLING:
            self._raw = True  # said once
            _log.warning(
                "%s: all of the first %d scores lie between 0 and 1, so they are probably not raw "
                "logits but sigmoids, which hide the differences between good answers. %s",
                self._server,
                len(self._seen),
                fix,
            )


_TELLING = 4
"""Scores between 0 and 1 that are no accident; those of logits spread over several units."""
_log = logging.getLogger(__name__)
