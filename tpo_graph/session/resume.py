"""Continue a stored run: after a crash or a stop (`resume`), or to more depth (`extend`).

What was paid for is not paid for again: the run resumes from its last finished node, with the
settings and the models it began with.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Unpack

from langgraph.runtime import RunControl

from tpo_graph.concurrency.background import sync
from tpo_graph.concurrency.callbacks import need_callable
from tpo_graph.context import BUDGETS, LIMITS, TPOContext
from tpo_graph.errors import ConfigurationError
from tpo_graph.graph import TPOGraph
from tpo_graph.models.connection import connected, reconnected
from tpo_graph.redaction import HIDDEN, has_hidden
from tpo_graph.rewards import RewardModel, as_reward_model
from tpo_graph.session.audit import audited
from tpo_graph.session.result import TPOResult
from tpo_graph.session.running import OnEvent, Told
from tpo_graph.session.setup import Choices, InputsAgain, ResumeInputs, Setup, spelled_out
from tpo_graph.session.stored import FAILED, go_on, held, need_same_rewards, opened
from tpo_graph.store import Store
from tpo_graph.store.attempts import change_settings, open_again
from tpo_graph.store.runs import StoredRun, get_run
from tpo_graph.strategies import KINDS, Strategy, by_name, named


@spelled_out
async def aresume(
    run_id: str,
    *,
    database: str | Store,
    on_event: OnEvent | None = None,
    control: RunControl | None = None,
    **inputs: Unpack[ResumeInputs],
) -> TPOResult:
    """Resume a run from its last finished node; no finished call is made again.

    A run that ended because a step failed for good repeats that step; one whose update gave nothing
    usable draws that anew; one whose first samples could not be scored begins anew. A run that has
    finished is returned as it is, unless a budget that ended it is raised, or it ended with
    "no_change" and other sampling (`seed`) is given: then the critic is asked anew.

    Args:
        database: the URL that holds the run, or a store that is open already.
        on_event, control: as in `aoptimize`.
        inputs: what the run began with and its database does not hold (objects, secrets), described
            in `InputsAgain` (`tpo_graph.session.setup`). An auditor that is missing does not stop
            the run: the result's `audit_error` tells. Other values for settings of what is left of
            the run, among `context.LIMITS` (`max_tokens`, `temperature`, `seed`,
            `max_total_tokens` and so on).

    Raises:
        RunNotFoundError: no such run is stored.
        RunBusyError: another live process works on it.
        ConfigurationError: a model must be given, or is not the one that the run began with.
        StoreError: the run has no checkpoints here: it belongs to a host graph.
    """
    need_callable("on_event", on_event, "event")
    again: dict[str, Any] = {**inputs}
    limits = {name: again.pop(name) for name in LIMITS if name in again}
    async with opened(database) as store:
        reopen = {*FAILED, "no_usable_update", *(limits.keys() & BUDGETS)}
        if limits.keys() - BUDGETS:  # the critic may say something else then
            reopen.add("no_change")
        if limits:
            stored = await get_run(store, run_id)
            context = TPOContext.checked({**stored["settings"], **limits}).model_dump(mode="json")
            limits = {name: context[name] for name in limits}
            _need_open(stored, limits, reopen)
        async with held(store, run_id, limits) as run:
            audits = _audits(run, again)
            told = Told(on_event=on_event, control=control)
            return await _go_on(store, run, again, audits, told, reopen)


resume = sync(aresume)
"""Resume a stored run and wait for its result."""


@spelled_out
async def aextend(
    run_id: str,
    *,
    depth: int,
    database: str | Store,
    on_event: OnEvent | None = None,
    control: RunControl | None = None,
    **inputs: Unpack[InputsAgain],
) -> TPOResult:
    """Continue a run to a greater depth, without sampling anything again.

    With the same seed, and a model that honours it, the result is that of one run at this depth.
    The run's other stop rules stay in force.

    Args:
        depth: the new D, greater than the run's own.
        database, on_event, control, inputs: as in `aresume`, but no settings.

    Raises:
        ConfigurationError: `depth` is not greater, or as in `aresume`.
        RunNotFoundError, RunBusyError, StoreError: as in `aresume`.
    """
    need_callable("on_event", on_event, "event")
    again: dict[str, Any] = {**inputs}
    depth = TPOContext.checked({"depth": depth}).depth
    async with opened(database) as store, held(store, run_id) as run:
        before = run["settings"]["depth"]
        if depth <= before:
            raise ConfigurationError(
                f"depth={depth!r} is not deeper than the {before} that run {run_id!r} has. "
                f"Give at least {before + 1}."
            )
        if run["stop_reason"] == "no_change":
            raise ConfigurationError(
                f"run {run_id!r} ended because the critic found nothing to change, which more "
                f"depth does not alter. Ask the critic again with: {_ASK_AGAIN}"
            )
        _rebuild(store, run, again)  # or nothing of the run is changed
        audits = _audits(run, again)
        # Stored first: a crash from here on is resumed at the new depth.
        await change_settings(store, run_id, {"depth": depth})
        await open_again(store, run_id)
        run = await get_run(store, run_id)
        return await _go_on(store, run, again, audits, Told(on_event=on_event, control=control))


extend = sync(aextend)
"""Take a stored run deeper and wait for its result."""


async def _go_on(
    store: Store,
    run: StoredRun,
    again: Mapping[str, Any],
    audits: "_Audits",
    told: Told,
    reopen: Collection[str] = FAILED,
) -> TPOResult:
    result = await go_on(store, run, lambda: _rebuild(store, run, again), reopen=reopen, **told)
    if audits.by is None:
        return replace(result, audit_error=audits.missing)
    scores = store.cache.reusing((run["launch"] or {}).get("reuse_scores", True))
    return await audited(
        result, run["conversation"], audits.by, fall_back=audits.fall_back, scores=scores
    )


class _Audits(NamedTuple):
    by: RewardModel | None
    fall_back: bool
    missing: str | None
    """Why there is no auditor though the run began with one."""


def _audits(run: StoredRun, again: Mapping[str, Any]) -> _Audits:
    """The auditor that is given, else the one that the run began with."""
    audit, now = again.get("audit"), again.get("audit_options")
    fall_back: bool = again.get("audit_fallback", False)
    launch = run["launch"] or {}
    began_with = launch.get("auditor")
    if audit is None and began_with is not None:
        audit, fall_back = launch["audit"], fall_back or launch["audit_fallback"]
        options_before: dict[str, Any] = launch.get("options") or {}
        before = options_before.get("audit")
        if audit is None or has_hidden(audit) or (now is None and has_hidden(before)):
            why = f"the run began with the auditor {began_with!r}, of which not all is stored"
            return _Audits(None, False, f"{why}. Give audit=... (and audit_options=...) again.")
        audit = reconnected(audit, before if now is None else None, "audit")
    audit = connected(audit, now, "audit")
    return _Audits(None if audit is None else as_reward_model(audit), fall_back, None)


_ASK_AGAIN = "tpo runs resume --seed N"


def _need_open(run: StoredRun, limits: Mapping[str, Any], reopen: Collection[str]) -> None:
    """Refuse limits for a run of which nothing is left."""
    if run["stop_reason"] not in (None, *reopen):
        other = _ASK_AGAIN if run["stop_reason"] == "no_change" else "tpo runs extend"
        raise ConfigurationError(
            f"run {run['run_id']!r} has ended (stopped by {run['stop_reason']!r}): "
            f"{', '.join(f'{n}={v!r}' for n, v in limits.items())} would change nothing. "
            f"Use instead: {other}"
        )


def _rebuild(store: Store, run: StoredRun, again: Mapping[str, Any]) -> TPOGraph:
    """The graph that the run began with, on this store."""
    launch = run["launch"] or {}
    given: dict[str, Any] = {
        name: launch.get(name) if again.get(name) is None else again[name]
        for name in ("model", "reward_model", "critic", "prompts")
    }
    for name in ("model", "reward_model", "prompts"):
        if given[name] is None:
            raise ConfigurationError(
                f"run {run['run_id']!r} was started with an object as its {name} "
                f"({run['policy' if name == 'model' else name]!r}), which no database can hold. "
                f"Give {name}=... to resume it."
            )
    for name, each in given.items():
        if again.get(name) is None and has_hidden(each):
            raise ConfigurationError(
                f"run {run['run_id']!r} was started with {name}={each!r}, and what stands as "
                f"{HIDDEN!r} is kept nowhere. Give {name}=... again "
                f"(--{name.replace('_', '-')} SPEC)."
            )
    before: dict[str, Any] = launch.get("options") or {}
    for role in ("model", "reward_model", "critic"):
        now = again.get(f"{role}_options")
        if now is not None:
            given[role] = connected(given[role], now, role)
        else:
            given[role] = reconnected(given[role], before.get(role), role)
    reward_model = as_reward_model(given["reward_model"])
    need_same_rewards(run, reward_model)
    strategies: Sequence[Strategy] = again.get("strategies") or ()
    for kind in KINDS:
        if name := run["settings"].get(kind):
            named(kind, name, by_name(strategies))  # or what is left of the run would be refused
    given["reward_model"] = reward_model
    setup = Setup(**given, choices=Choices(strategies=strategies))
    cache = store.cache.reusing(launch.get("reuse_scores", True))
    return setup.graph(cache=cache, checkpointer=store.checkpointer)
