"""Checks of a prompt set: its variables, and whether the prompts fit the model's context window."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

from langchain_core.language_models import BaseChatModel

from tpo_graph.check.finding import Finding
from tpo_graph.context import RunOptions
from tpo_graph.local import weights
from tpo_graph.models.load import LOCAL, model_name
from tpo_graph.prompts import BEFORE, Prompt, PromptSet, Stage

_finding = partial(Finding, "prompts")

_STAGES: tuple[Stage, ...] = ("loss", "gradient", "update")


def check_prompts(
    prompts: PromptSet,
    policy: BaseChatModel | None,
    options: RunOptions,
    context_window: int | None,
) -> Iterator[Finding]:
    """Findings about a prompt set that was loaded, which means that its variables are right.

    The policy's tokenizer counts; without one a token is taken to be four characters. The context
    window is in tokens; None: as far as it can be found out.
    """
    variables = "; ".join(
        f"{stage}: {', '.join(sorted(_prompt(prompts, stage).variables)) or 'none'}"
        for stage in _STAGES
    )
    yield _finding("variables", "ok", variables)
    count, about = _counter(policy)
    own: dict[Stage, int] = {}
    for stage in _STAGES:
        prompt = _prompt(prompts, stage)
        continued = own[BEFORE[stage]] if prompt.continues else 0
        own[stage] = continued + _own_tokens(prompt, count)
    lengths = ", ".join(f"{stage} {own[stage]}" for stage in _STAGES)
    yield _finding("length", "ok", f"{about}tokens of their own: {lengths}")
    window = context_window or _window(policy)
    if window is None:
        detail = "the model's context window is not known: give --context-window TOKENS"
        yield _finding("fits the context window", "skip", detail)
        return
    yield _fits(prompts, own, options, window)


def _fits(prompts: PromptSet, own: dict[Stage, int], options: RunOptions, window: int) -> Finding:
    name = "fits the context window"
    answer, critique = options.max_tokens, options.critic_max_tokens
    if answer is None or critique is None:
        return _finding(name, "skip", "max_tokens and critic_max_tokens are not both set")
    reply: dict[Stage, int] = {"loss": critique, "gradient": critique, "update": answer}
    for stage in _STAGES:
        if own[stage] + reply[stage] >= window:
            limit = "max_tokens" if stage == "update" else "critic_max_tokens"
            fix = f"lower {limit}" if own[stage] < window // 2 else "use a longer context"
            detail = (
                f"{stage}: the prompt's own {own[stage]} tokens and {limit}={reply[stage]} leave "
                f"no room in a window of {window}: {fix}"
            )
            return _finding(name, "fail", detail)
    longest = {stage: _longest(prompts, stage, own, answer, critique) for stage in _STAGES}
    stage = max(_STAGES, key=lambda stage: longest[stage] + reply[stage])
    needed = longest[stage] + reply[stage]
    detail = f"{stage} needs up to {needed} tokens and the conversation, of {window}"
    if needed < window:
        return _finding(name, "ok", detail)
    detail += ": answers and critiques of full length will not fit; lower max_tokens or "
    return _finding(name, "warn", detail + "critic_max_tokens if yours are that long")


def _longest(
    prompts: PromptSet, stage: Stage, own: dict[Stage, int], answer: int, critique: int
) -> int:
    """Tokens of a prompt whose answers and critiques all have full length."""
    sizes = {"chosen": answer, "rejected": answer, "loss": critique, "gradient": critique}
    if stage != "loss":
        sizes["loss_user"] = _longest(prompts, "loss", own, answer, critique)
    prompt = _prompt(prompts, stage)
    used = Counter(name for _, name in (*prompt.system, *prompt.user) if name is not None)
    before = 0
    if prompt.continues:
        asked = BEFORE[stage]
        before = critique + _longest(prompts, asked, own, answer, critique) - own[asked]
    return before + own[stage] + sum(sizes.get(name, 0) * times for name, times in used.items())


def _own_tokens(prompt: Prompt, count: Callable[[str], int]) -> int:
    empty = prompt.render(dict.fromkeys(prompt.variables, ""))
    return count(empty.system) + count(empty.user)


def _counter(policy: BaseChatModel | None) -> tuple[Callable[[str], int], str]:
    source = _local_source(policy)
    if source is None:
        return lambda text: -(-len(text) // 4), "about "
    tokenizer = weights.load_tokenizer(source)
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False)), ""


def _window(policy: BaseChatModel | None) -> int | None:
    source = _local_source(policy)
    if source is not None:
        config = weights.load_config(source, weights.Options()).get_text_config()
        return getattr(config, "max_position_embeddings", None)
    profile: object = getattr(policy, "profile", None)
    known = cast("dict[str, Any]", profile) if isinstance(profile, dict) else {}
    return known.get("max_input_tokens")


def _local_source(policy: BaseChatModel | None) -> str | None:
    name = "" if policy is None else model_name(policy)
    return weights.resolve(name.removeprefix(LOCAL)) if name.startswith(LOCAL) else None


def _prompt(prompts: PromptSet, stage: Stage) -> Prompt:
    return {"loss": prompts.loss, "gradient": prompts.gradient, "update": prompts.update}[stage]
