"""Checks of the loop by planted defects: are the defects named, and are they repaired?

Each probe is one iteration with a known truth: an answer that breaks one requirement goes through
loss, gradient and update, beside fresh samples of the same request. TPO is worth its tokens where
rewrites beat the answer they start from more often than they spoil it, and beat fresh samples on
average; the paper's Figure 7 shows that a weak model gets worse by it.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, HumanMessage

from tpo_graph.check.finding import Finding, Status
from tpo_graph.check.probes import Probe
from tpo_graph.context import RunOptions, Sampling
from tpo_graph.models.load import model_name
from tpo_graph.models.sampling import Generated, generate
from tpo_graph.prompts import PromptSet, Stage

_finding = partial(Finding, "policy")

_EACH = 2
"""Rewrites and fresh samples per probe."""
_ANSWER_TOKENS, _CRITIQUE_TOKENS = 160, 256
"""Limits of a reply: the probes' answers are short, and a slow server is to be done in minutes."""


@dataclass(frozen=True)
class Trial:
    """One probe's iteration."""

    probe: Probe
    critique: list[str]
    """Loss and gradient as the critic wrote them; fewer where one gave no usable reply."""
    rewrites: Generated
    """By the critic's own gradient; without one, the unusable replies of the critic."""
    obeyed: Generated
    """By the probe's own, which is right."""
    fresh: Generated
    """Samples of the request alone."""

    @property
    def named(self) -> bool:
        """Whether the critic found the defect, in the loss and in the gradient."""
        return len(self.critique) == 2 and all(map(self.probe.finds_defect, self.critique))


async def run_trials(
    probes: Sequence[Probe],
    policy: BaseChatModel,
    critic: BaseChatModel,
    prompts: PromptSet,
    options: RunOptions,
) -> list[Trial]:
    """One iteration per probe, all at once; the same seed gives the same requests.

    Raises:
        PolicyError: policy or critic failed.
    """
    trials = (
        _trial(number, probe, policy, critic, prompts, options)
        for number, probe in enumerate(probes)
    )
    return list(await asyncio.gather(*trials))


async def _trial(
    number: int,
    probe: Probe,
    policy: BaseChatModel,
    critic: BaseChatModel,
    prompts: PromptSet,
    options: RunOptions,
) -> Trial:
    async def ask(stage: Stage, n: int, loss: str = "", gradient: str = "") -> Generated:
        if stage == "update":
            model, limit = policy, _ANSWER_TOKENS
            sampling = options.response_sampling(number + 1)
        else:
            model, limit = critic, _CRITIQUE_TOKENS
            sampling = options.critic_sampling(number, stage)
        messages = _rendered(prompts, stage, probe, loss, gradient)
        tag = getattr(prompts, stage).output_tag
        return await generate(model, messages, n, _limited(sampling, limit), tag=tag, stage=stage)

    async def own() -> tuple[list[str], Generated]:
        loss = await ask("loss", 1)
        if not loss.texts:
            return [], loss
        gradient = await ask("gradient", 1, *loss.texts)
        if not gradient.texts:
            return loss.texts, gradient
        critique = [*loss.texts, *gradient.texts]
        return critique, await ask("update", _EACH, *critique)

    sampling = _limited(options.response_sampling(0), _ANSWER_TOKENS)
    (critique, rewrites), obeyed, fresh = await asyncio.gather(
        own(),
        ask("update", _EACH, probe.loss, probe.gradient),
        generate(policy, [HumanMessage(probe.query)], _EACH, sampling),
    )
    return Trial(probe, critique, rewrites, obeyed, fresh)


def _limited(sampling: Sampling, limit: int) -> Sampling:
    given = sampling["max_tokens"]
    return {**sampling, "max_tokens": limit if given is None else min(given, limit)}


def _rendered(
    prompts: PromptSet, stage: Stage, probe: Probe, loss: str, gradient: str
) -> list[BaseMessage]:
    values = {
        "query": probe.query,
        "conversation": probe.query,
        "chosen": probe.chosen,
        "rejected": probe.rejected,
        "criteria": "",
        "reasons": "",
        "loss": loss,
        "gradient": gradient,
    }
    return prompts.render(stage, values).messages()


def judge_trials(
    trials: Sequence[Trial], critic: BaseChatModel, tag: str | None
) -> Iterator[Finding]:
    """What the trials say of critic, tags, instructions, rewrites, and of TPO with this set-up."""
    yield _names_defects(trials, critic)
    yield _keeps_tags(trials, tag)
    yield _follows(trials)
    yield _rewrites(trials)
    yield _finding(
        "what this cannot judge",
        "skip",
        "facts, code, reasoning, taste, long answers: run `tpo compare` on prompts of your own",
    )


def _names_defects(trials: Sequence[Trial], critic: BaseChatModel) -> Finding:
    named, silent = sum(trial.named for trial in trials), sum(len(t.critique) < 2 for t in trials)
    detail = f"{named} of {len(trials)} planted defects"
    if silent == len(trials):
        detail = f"{model_name(critic)} gave no usable loss or gradient: raise critic_max_tokens"
        return _finding("critic names defects", "fail", detail)
    missed = [trial.probe.defect for trial in trials if not trial.named]
    if missed:
        detail += f"; missed {missed[0]!r}"
    status = _grade(named, len(trials))
    if status != "ok":
        detail += ": give a stronger model as critic, or a reward model that states its reasons"
    return _finding("critic names defects", status, detail)


def _keeps_tags(trials: Sequence[Trial], tag: str | None) -> Finding:
    name = "keeps the tags"
    if tag is None:
        return _finding(name, "skip", "the prompt set asks for none")
    replies = [reply for trial in trials for reply in (trial.rewrites, trial.obeyed)]
    lost = sum(reply.usage["unusable"] for reply in replies)
    asked = lost + sum(len(reply.texts) for reply in replies)
    detail = f"{asked - lost} of {asked} replies were usable, which stand in <{tag}>"
    if not lost:
        return _finding(name, "ok", detail)
    if 2 * lost <= asked:
        return _finding(name, "warn", f"{detail}; the others are paid for and lost")
    return _finding(name, "fail", f"{detail}: use a model that follows instructions")


def _follows(trials: Sequence[Trial]) -> Finding:
    texts = [(trial.probe, text) for trial in trials for text in trial.obeyed.texts]
    done = sum(probe.met(text) == len(probe.requirements) for probe, text in texts)
    wanted = _EACH * len(trials)
    detail = f"{done} of {wanted} rewrites did what a right instruction asked for"
    status = _grade(done, wanted)
    if status != "ok":
        detail += ": no critique can help such a policy much; use a larger one"
    return _finding("follows instructions", status, detail)


def _rewrites(trials: Sequence[Trial]) -> Finding:
    complete = [trial for trial in trials if len(trial.critique) == 2]
    rewrites = [(trial.probe, text) for trial in complete for text in trial.rewrites.texts]
    fresh = [(trial.probe, text) for trial in trials for text in trial.fresh.texts]
    name = "improves answers"
    if not rewrites or not fresh:
        return _finding(name, "fail", "no usable rewrite, or no answer, to compare")
    better = sum(probe.met(text) > probe.met(probe.chosen) for probe, text in rewrites)
    worse = sum(probe.met(text) < probe.met(probe.chosen) for probe, text in rewrites)
    copied = sum(text.strip() == probe.chosen.strip() for probe, text in rewrites)
    ours, theirs = (
        fmean(probe.met(text) / len(probe.requirements) for probe, text in texts)
        for texts in (rewrites, fresh)
    )
    detail = (
        f"of {len(rewrites)} rewrites {better} are better than the answer they started from, "
        f"{worse} worse, {copied} copies; they meet {ours:.0%} of the requirements, fresh samples "
        f"{theirs:.0%}"
    )
    if better > worse and ours >= theirs:
        return _finding(name, "ok", detail)
    if better <= worse and ours <= theirs:
        advice = "; best-of-N (--depth 0, a larger --width) is the better use of the tokens here"
        return _finding(name, "fail", detail + advice)
    advice = "; compare with best-of-N on your own prompts before you rely on it (`tpo compare`)"
    return _finding(name, "warn", detail + advice)


def _grade(done: int, wanted: int) -> Status:
    return "ok" if 3 * done >= 2 * wanted else "warn" if 3 * done >= wanted else "fail"
