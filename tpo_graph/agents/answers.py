"""Messages around a run: which drafts TPO may rewrite, and the message that takes their place.

`middleware.py` and `chat_model.py` hand over an agent's or a model's message and the final state of
the run; they get the message that their caller sees.
"""

import logging
from collections.abc import Iterable
from functools import reduce
from typing import Any, cast

from langchain_core.messages import AIMessage
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata, add_usage

from tpo_graph.errors import ConfigurationError, TPOError
from tpo_graph.models.replies import parse_reply
from tpo_graph.state import TPOState
from tpo_graph.usage import Ledger

_log = logging.getLogger("tpo_graph")
_PLAIN = {"text", "reasoning"}
_WHO = ("model_name", "model", "model_provider", "system_fingerprint")
"""What a draft's metadata says of who wrote it."""


def is_final_answer(message: AIMessage) -> bool:
    """Whether the message is nothing but prose for a person: no tool call, image or citation."""
    if message.tool_calls or message.invalid_tool_calls or not message.text.strip():
        return False
    blocks = message.content_blocks
    return all(block["type"] in _PLAIN and not block.get("annotations") for block in blocks)


def refined(draft: AIMessage, state: TPOState) -> AIMessage:
    """The run's answer in the place of `draft`; the draft's own content if nothing beat it.

    The run has given it the draft's id (`run_config`): to the caller it is the same message, in
    every stream. Usage is the draft's and the run's together.
    """
    answer = cast(AIMessage, state["messages"][-1])
    if (failure := state.get("failure")) is not None:
        _log.warning("TPO ended early, with the best response so far: %s", failure["error"])
    usages = [u for u in (draft.usage_metadata, usage_metadata(state["usage"])) if u]
    kept = parse_reply(str(draft.text)) == answer.text
    about = draft.response_metadata
    if not kept:  # another text has another ending
        about = {name: about[name] for name in _WHO if name in about}
    changes: dict[str, Any] = {
        "response_metadata": {**about, **answer.response_metadata},
        "usage_metadata": reduce(add_usage, usages) if usages else None,
    }
    if kept:
        return draft.model_copy(update={**changes, "id": draft.id and answer.id})
    return AIMessage(answer.text, id=draft.id and answer.id, name=draft.name, **changes)


def stop_words(given: object) -> list[str]:
    """What ends an answer, as a list; a text is as good as one for OpenAI.

    Raises:
        ConfigurationError: it is neither a text nor a list of texts.
    """
    words = [given] if isinstance(given, str) else given or []
    if not isinstance(words, list | tuple) or not all(
        isinstance(word, str) for word in cast("list[object]", words)
    ):
        raise ConfigurationError(
            f"stop={given!r:.200} is not valid: it must be a text or a list of texts"
        )
    return list(cast("list[str]", words))


def before_stop(text: str, stop: Iterable[str]) -> str:
    """The text up to the first of these words; its reward does not know that it ends there."""
    found = (at for word in stop if word and (at := text.find(word)) >= 0)
    return text[: min(found, default=None)]


def ended(answer: AIMessage, stop: Iterable[str]) -> AIMessage:
    """The answer up to the first of these words."""
    text = before_stop(answer.text, stop)
    return answer if text == answer.text else answer.model_copy(update={"content": text})


def unrefined(draft: AIMessage, error: TPOError) -> AIMessage:
    """The draft as it is, with what went wrong in `response_metadata["tpo"]`."""
    about = {"error": f"{type(error).__name__}: {error}"}
    return draft.model_copy(update={"response_metadata": {**draft.response_metadata, "tpo": about}})


def usage_metadata(ledger: Ledger) -> UsageMetadata | None:
    """All tokens of policy and critic in a run, each call once; None where none are reported."""
    stages = [stage for name, stage in ledger.items() if name != "reward_score"]
    sent = sum(stage["prompt_tokens"] for stage in stages)
    written = sum(stage["completion_tokens"] for stage in stages)
    cached = sum(stage["cached_tokens"] for stage in stages)
    if not sent + written:
        return None
    usage = UsageMetadata(input_tokens=sent, output_tokens=written, total_tokens=sent + written)
    if cached:
        usage["input_token_details"] = InputTokenDetails(cache_read=cached)
    return usage
