"""Examine a set-up before money is spent on it: policy and critic, reward model, prompt set.

Each part is asked a few small things; what is seen becomes a `Finding`. `tpo check` prints them.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from langchain_core.language_models import BaseChatModel
from typing_extensions import TypedDict

from tpo_graph.check.finding import Finding
from tpo_graph.check.policy import check_policy
from tpo_graph.check.probes import load_probes
from tpo_graph.check.prompts import check_prompts
from tpo_graph.check.reward import Given, check_reward_model
from tpo_graph.check.window import served_window
from tpo_graph.context import RunOptions
from tpo_graph.errors import TPOError
from tpo_graph.models.load import load_chat_model
from tpo_graph.prompts import load_prompts

__all__ = ["Finding", "check_setup"]


class Checked(TypedDict, total=False):
    """What is examined, as in `create_tpo_graph`; what is None or absent is left out."""

    model: str | BaseChatModel | None
    critic: str | BaseChatModel | None
    """Besides the policy, which is the critic otherwise."""
    reward_model: Given | None
    audit: Given | None
    """The reward model that audits; it must tell good from bad as well."""


async def check_setup(
    *,
    prompts: str = "tpo",
    options: RunOptions | None = None,
    against: Given | None = None,
    context_window: int | None = None,
    probes: str | Path | None = None,
    **setup: Unpack[Checked],
) -> AsyncIterator[Finding]:
    """Examine what is given and yield findings as they are made; nothing is raised for a bad part.

    The policy is asked for `width` short answers and, per planted defect (six come with the
    package), a critique in two calls, four rewrites and two fresh answers: about 4,000 tokens. The
    reward model is asked for about seventy scores of short texts.

    Args:
        prompts: as in `create_tpo_graph`.
        options: how runs will sample.
        against: a reward model that must give the same scores, such as the local one of a remote.
        context_window: of the policy, in tokens; None: as far as it can be found out.
        probes: a file with probes of your own (docs/check.md); the package's when None.
        setup: `Checked`.

    Raises:
        ConfigurationError: the file of probes is wrong.
    """
    asked = load_probes(probes)
    options = options or RunOptions()
    try:
        loaded = load_prompts(prompts)
    except TPOError as error:
        yield Finding("prompts", "loads", "fail", str(error))
        return
    model, reward_model, audit = setup.get("model"), setup.get("reward_model"), setup.get("audit")
    policy: BaseChatModel | None = None
    try:
        policy = None if model is None else load_chat_model(model)
        if policy is not None and context_window is None:
            context_window = await served_window(policy)
        found = list(check_prompts(loaded, policy, options, context_window))
    except TPOError as error:
        found = [Finding("prompts", "length", "skip", str(error))]
    for finding in found:
        yield finding
    if model is not None:
        async for finding in check_policy(
            policy or model, setup.get("critic"), loaded, options, asked
        ):
            yield finding
    if reward_model is not None:
        async for finding in check_reward_model(reward_model, asked, against):
            yield finding
    if audit is not None:
        async for finding in check_reward_model(audit, asked):
            yield replace(finding, part="audit")
