"""n samples of one prompt from any LangChain chat model: the only place that calls a model.

Nodes give messages and `Sampling`; they get usable texts and what those cost. How the samples are
asked for is `requests.py`. What is missing or unusable is retried once, then done without.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage

from tpo_graph.context import Sampling
from tpo_graph.errors import TPOError
from tpo_graph.models.failures import policy_error
from tpo_graph.models.load import model_name
from tpo_graph.models.loops import handle
from tpo_graph.models.replies import Unusable, has_bare_reasoning, read_reply
from tpo_graph.models.requests import Call, is_garbled
from tpo_graph.usage import Usage, spending

_FINISHES = {
    **dict.fromkeys(("stop", "end_turn", "stop_sequence", "eos_token", "complete"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens", "model_length"), "length"),
    "model_context_window_exceeded": "length",
    "filtered": "content_filter",  # as `completions.py` writes it
    **dict.fromkeys(
        ("content_filter", "content_filtered", "safety", "prohibited_content", "recitation"),
        "content_filter",
    ),
}
"""Providers' words for the finish reasons that matter here."""


@dataclass(frozen=True)
class Generated:
    """Samples of one prompt."""

    texts: list[str]
    """Usable texts in the order they came; fewer than asked for when replies stayed unusable."""
    usage: Usage
    finish_reasons: list[str | None] = field(default_factory=list[str | None])
    """Why each text ends: "stop", "length" when the token limit cut it, a provider's other word, or
    None when the provider says nothing. A text that its output tag closes was not cut."""
    unusable: list[Unusable] = field(default_factory=list[Unusable])
    """The replies that held no text, in the order they came."""
    salvaged: int = 0
    """How many texts were used although their output tag is missing or was not closed."""

    def no_text(self) -> str:
        """Why there is no text at all, and what to do about it, in a sentence or two."""
        why = Counter(reply.why for reply in self.unusable)
        if 2 * why["filtered"] > len(self.unusable):
            return (
                "Its provider's content filter withheld them: rephrase the query, or try another "
                "model."
            )
        if why["cut"]:
            return "max_tokens cut them off before any answer: raise it."
        return "Raise max_tokens if it spends them on thinking, or try another model."


async def generate(
    model: BaseChatModel,
    messages: Sequence[BaseMessage],
    n: int,
    sampling: Sampling,
    *,
    tag: str | None = None,
    stage: str = "sample",
    metadata: Mapping[str, Any] | None = None,
) -> Generated:
    """Draw `n` samples of one prompt.

    Callbacks and tags are inherited from the runnable that is running (a graph's node), so traces
    show the calls beneath it; their tokens stay out of the host's message stream.

    Args:
        model: any chat model. Parameters that its class does not declare are not sent.
        messages: the prompt.
        n: how many samples, at least 1.
        sampling: parameters; None leaves one to the model.
        tag: when given, a reply's text is what stands between `<tag>` and `</tag>`. Without the
            tag a reply is unusable, unless it is clearly the text alone (`replies.read_reply`).
        stage: the node that asks: the run's name in traces, and in errors.
        metadata: more metadata for traces.

    Returns:
        At most `n` texts, none at all when every reply was unusable twice.

    Raises:
        PolicyError: the model failed, after its client's own retries, and nothing usable came.
    """
    started = time.perf_counter()
    held = await handle(model)
    call = Call(held, list(messages), sampling, stage, dict(metadata or {}))
    with spending() as usage:
        generated = await _draw(call, n, tag, usage)
    usage["seconds"] = round(time.perf_counter() - started, 6)
    return generated


async def _draw(call: Call, n: int, tag: str | None, usage: Usage) -> Generated:
    held = call.held
    drawn = Generated([], usage)
    asked = salvaged = 0
    failure: Exception | None = None
    for _ in range(2):
        missing = n - len(drawn.texts)
        answers = await call.ask(missing, asked)
        asked += missing
        failure = answers.failure
        received = answers.generations[:missing]
        held.bare_reasoning |= any(has_bare_reasoning(each.message) for each in received)
        for generation in received:
            finish = finish_reason_of(generation.message, generation.generation_info)
            reply = read_reply(generation.message, tag, finish, bare_reasoning=held.bare_reasoning)
            if isinstance(reply, Unusable):
                usage["unusable"] += 1
                drawn.unusable.append(reply)
                continue
            finish = "stop" if reply.closed and finish == "length" else finish
            usage["truncated"] += finish == "length"
            salvaged += reply.salvaged
            drawn.texts.append(reply.text)
            drawn.finish_reasons.append(finish)
        gone = failure is not None and not is_garbled(failure)
        if len(drawn.texts) == n or (gone and not drawn.texts):
            break
    if failure is not None and not drawn.texts:
        if isinstance(failure, TPOError):
            raise failure
        raise policy_error(failure, held.model, model_name(held.model), call.stage) from failure
    return replace(drawn, salvaged=salvaged)


def finish_reason_of(message: BaseMessage, more: Mapping[str, Any] | None = None) -> str | None:
    """Why a message ends, by its metadata and by `more` of it: in OpenAI's words where there are
    some, else in the provider's, as far as it says."""
    told = {**message.response_metadata, **(more or {})}
    names = ("finish_reason", "stop_reason", "done_reason", "stopReason")
    said = next((found for name in names if isinstance(found := told.get(name), str)), None)
    return None if said is None else _FINISHES.get(said.lower(), said)
