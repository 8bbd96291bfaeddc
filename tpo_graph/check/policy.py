"""Checks of the policy: does it answer, n at once, with different texts and with usage?

Whether it improves answers is looked at in `defects.py`.
"""

from collections.abc import AsyncIterator
from functools import partial

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage

from tpo_graph.check.defects import judge_trials, run_trials
from tpo_graph.check.finding import Finding, Status
from tpo_graph.check.probes import Probes
from tpo_graph.context import RunOptions
from tpo_graph.errors import TPOError
from tpo_graph.models.load import load_chat_model, model_name
from tpo_graph.models.sampling import Generated, generate
from tpo_graph.prompts import PromptSet

_finding = partial(Finding, "policy")


async def check_policy(
    model: str | BaseChatModel,
    critic: str | BaseChatModel | None,
    prompts: PromptSet,
    options: RunOptions,
    probes: Probes,
) -> AsyncIterator[Finding]:
    """Findings about the policy, and about the critic in its two calls, as they are made."""
    try:
        policy = load_chat_model(model)
        asked = await generate(
            policy, [HumanMessage(probes.question)], options.width, options.response_sampling(0)
        )
    except TPOError as error:
        yield _finding("answers", "fail", str(error))
        return
    yield _answers(policy, asked, options.width)
    if not asked.texts:
        return
    if options.width > 1:
        yield _honours_n(asked, options.width)
        yield _samples_differ(asked)
    yield _returns_usage(asked)
    try:
        writer = policy if critic is None else load_chat_model(critic)
        trials = await run_trials(probes.probes, policy, writer, prompts, options)
        for finding in judge_trials(trials, writer, prompts.update.output_tag):
            yield finding
    except TPOError as error:
        yield _finding("works in the loop", "fail", str(error))


def _answers(policy: BaseChatModel, asked: Generated, width: int) -> Finding:
    usable = len(asked.texts)
    seen = f"{model_name(policy)}: {usable} of {width} samples are usable"
    if usable < width:
        status: Status = "warn" if usable else "fail"
        return _finding(
            "answers", status, f"{seen}; raise max_tokens if it thinks before it writes"
        )
    if asked.usage["truncated"]:
        return _finding("answers", "warn", f"{seen}, but cut off: raise max_tokens")
    return _finding("answers", "ok", seen)


def _honours_n(asked: Generated, width: int) -> Finding:
    requests = asked.usage["requests"]
    if requests == 1:
        return _finding("honours n", "ok", f"{width} samples from one request")
    detail = f"{width} samples took {requests} requests, and each pays for the prompt"
    return _finding("honours n", "warn", detail)


def _samples_differ(asked: Generated) -> Finding:
    different, all_of_them = len(set(asked.texts)), len(asked.texts)
    if different == 1 < all_of_them:
        detail = f"all {all_of_them} are the same text: raise temperature, or turn a cache off"
        return _finding("samples differ", "fail", detail)
    return _finding("samples differ", "ok", f"{different} different texts of {all_of_them}")


def _returns_usage(asked: Generated) -> Finding:
    read, written = asked.usage["prompt_tokens"], asked.usage["completion_tokens"]
    if read and written:
        return _finding("returns usage", "ok", f"{read} prompt and {written} completion tokens")
    detail = "token counts are missing: token budgets and cost reports will not work"
    return _finding("returns usage", "warn", detail)
