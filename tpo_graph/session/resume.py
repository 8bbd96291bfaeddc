"""Continue a stored run: after a crash or a stop (`resume`), or to more depth (`extend`).

What was paid for is not paid for again: the run resumes from its last finished node, with the
settings and the models it began with.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from langchain_core.language_models import BaseChatModel
from langgraph.runtime import RunControl

from tpo_graph.concurrency.background import run_in_background
from tpo_graph.context import BUDGETS, LIMITS, TPOContext
from tpo_graph.errors import ConfigurationError
from tpo_graph.graph import TPOGraph, create_tpo_graph
from tpo_graph.models import load_chat_model
from tpo_graph.models.connection import ROLES, connected, reconnected
from tpo_graph.prompts import PromptSet, load_prompts
from tpo_graph.redaction import HIDDEN, has_hidden
from tpo_graph.rewards import RewardFunction, RewardModel, as_reward_model
from tpo_graph.session.audit import audited
from tpo_graph.session.result import TPOResult
from tpo_graph.session.running import OnEvent
from tpo_graph.session.stored import FAILED, go_on, held, need_same_rewards, opened
from tpo_graph.store import Store
from tpo_graph.store.attempts import change_settings, open_again
from tpo_graph.store.runs import StoredRun, get_run
from tpo_graph.strategies import KINDS, Strategy, by_name, named


def resume(
    run_id: str,
    *,
    database: str,
    model: str | BaseChatModel | None = None,
    reward_model: str | RewardModel | RewardFunction | None = None,
    critic: str | BaseChatModel | None = None,
    prompts: str | PromptSet | None = None,
    audit: str | RewardModel | RewardFunction | None = None,
    audit_fallback: bool = False,
    on_event: OnEvent | None = None,
    control: RunControl | None = None,
    **options: Any,
) -> TPOResult:
    """Resume a stored run and wait for its result; see `aresume`."""
    return run_in_background(
        aresume(
            run_id,
            database=database,
            model=model,
            reward_model=reward_model,
            critic=critic,
            prompts=prompts,
            audit=audit,
            audit_fallback=audit_fallback,
            on_event=on_event,
            control=control,
            **options,
        )
    )


def extend(
    run_id: str,
    *,
    depth: int,
    database: str,
    model: str | BaseChatModel | None = None,
    reward_model: str | RewardModel | RewardFunction | None = None,
    critic: str | BaseChatModel | None = None,
    prompts: str | PromptSet | None = None,
    audit: str | RewardModel | RewardFunction | None = None,
    audit_fallback: bool = False,
    on_event: OnEvent | None = None,
    control: RunControl | None = None,
    **options: Any,
) -> TPOResult:
    """Take a stored run deeper and wait for its result; see `aextend`."""
    return run_in_background(
        aextend(
            run_id,
            depth=depth,
            database=database,
            model=model,
            reward_model=reward_model,
            critic=critic,
            prompts=prompts,
            audit=audit,
            audit_fallback=audit_fallback,
            on_event=on_event,
            control=control,
            **options,
        )
    )


async def aresume(
    run_id: str,
    *,
    database: str | Store,
    model: str | BaseChatModel | None = None,
    reward_model: str | RewardModel | RewardFunction | None = None,
    critic: str | BaseChatModel | None = None,
    prompts: str | PromptSet | None = None,
    audit: str | RewardModel | RewardFunction | None = None,
    audit_fallback: bool = False,
    on_event: OnEvent | None = None,
    control: RunControl | None = None,
    **options: Any,
) -> TPOResult:
    """Resume a run from its last finished node; no finished call is made again.

    A run that ended because a step failed for good repeats that step; one whose update gave nothing
    usable draws that anew; one whose first samples could not be scored begins anew. A run that has
    finished is returned as it is, unless a budget that ended it is raised, or it ended with
    "no_change" and other sampling (`seed`) is given: then the critic is asked anew.

    Args:
        database: the URL that holds the run, or a store that is open already.
        model, reward_model, critic, prompts: needed where the run was given an object instead of a
            name; None loads what was named.
        audit, audit_fallback: as in `aoptimize`; None is the auditor that the run began with. Where
            that was an object, or had a secret, the result's `audit_error` says that it is missing.
        on_event, control: as in `aoptimize`.
        options: other values for settings of what is left of the run, among `context.LIMITS`
            (`max_tokens`, `temperature`, `seed`, `max_total_tokens` and so on); and
            `model_options`, `critic_options`, `reward_model_options`, `audit_options`, as in
            `aoptimize`. Those that the run began with hold where they had no secrets; else they
            must be given again. `strategies`: the objects of your own that the run began with.

    Raises:
        RunNotFoundError: no such run is stored.
        RunBusyError: another live process works on it.
        ConfigurationError: a model must be given, or is not the one that the run began with.
        StoreError: the run has no checkpoints here: it belongs to a host graph.
    """
    handles = {"model": model, "reward_model": reward_model, "critic": critic, "prompts": prompts}
    limits = {name: options.pop(name) for name in LIMITS if name in options}
    _checked(options, LIMITS)
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
            audits = _audits(run, audit, audit_fallback, options)
            return await _go_on(store, run, handles, options, audits, on_event, control, reopen)


async def aextend(
    run_id: str,
    *,
    depth: int,
    database: str | Store,
    model: str | BaseChatModel | None = None,
    reward_model: str | RewardModel | RewardFunction | None = None,
    critic: str | BaseChatModel | None = None,
    prompts: str | PromptSet | None = None,
    audit: str | RewardModel | RewardFunction | None = None,
    audit_fallback: bool = False,
    on_event: OnEvent | None = None,
    control: RunControl | None = None,
    **options: Any,
) -> TPOResult:
    """Continue a run to a greater depth, without sampling anything again.

    With the same seed, and a model that honours it, the result is that of one run at this depth.
    The run's other stop rules stay in force.

    Args:
        depth: the new D, greater than the run's own.
        database, model, reward_model, critic, prompts, audit, audit_fallback, on_event, control,
            options: as in `aresume`.

    Raises:
        ConfigurationError: `depth` is not greater, or as in `aresume`.
        RunNotFoundError, RunBusyError, StoreError: as in `aresume`.
    """
    handles = {"model": model, "reward_model": reward_model, "critic": critic, "prompts": prompts}
    _checked(options)
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
        _rebuild(store, run, handles, options)  # or nothing of the run is changed
        audits = _audits(run, audit, audit_fallback, options)
        # Stored first: a crash from here on is resumed at the new depth.
        await change_settings(store, run_id, {"depth": depth})
        await open_again(store, run_id)
        run = await get_run(store, run_id)
        return await _go_on(store, run, handles, options, audits, on_event, control)


async def _go_on(
    store: Store,
    run: StoredRun,
    handles: dict[str, Any],
    options: Mapping[str, Any],
    audits: "_Audits",
    on_event: OnEvent | None,
    control: RunControl | None,
    reopen: Collection[str] = FAILED,
) -> TPOResult:
    result = await go_on(
        store,
        run,
        lambda: _rebuild(store, run, handles, options),
        on_event,
        control,
        reopen=reopen,
    )
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


def _audits(
    run: StoredRun,
    audit: str | RewardModel | RewardFunction | None,
    fall_back: bool,
    options: Mapping[str, Any],
) -> _Audits:
    """The auditor that is given, else the one that the run began with.

    Raises:
        ConfigurationError: it cannot be loaded.
    """
    launch, now = run["launch"] or {}, options.get("audit_options")
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
    """Refuse limits for a run of which nothing is left.

    Raises:
        ConfigurationError: it has ended, and they would not open it again.
    """
    if run["stop_reason"] not in (None, *reopen):
        other = _ASK_AGAIN if run["stop_reason"] == "no_change" else "tpo runs extend"
        raise ConfigurationError(
            f"run {run['run_id']!r} has ended (stopped by {run['stop_reason']!r}): "
            f"{', '.join(f'{n}={v!r}' for n, v in limits.items())} would change nothing. "
            f"Use instead: {other}"
        )


def _checked(options: Mapping[str, Any], others: Sequence[str] = ()) -> Mapping[str, Any]:
    known = [*others, "strategies", *(f"{role}_options" for role in ROLES)]
    if unknown := sorted(options.keys() - set(known)):
        raise ConfigurationError(f"there is no argument {unknown!r}; there are {', '.join(known)}")
    return options


def _rebuild(
    store: Store, run: StoredRun, handles: dict[str, Any], options: Mapping[str, Any]
) -> TPOGraph:
    """The graph that the run began with, on this store.

    Raises:
        ConfigurationError: a model cannot be loaded, or rewards would not be comparable.
    """
    launch = run["launch"] or {}
    given: dict[str, Any] = {
        name: launch.get(name) if h is None else h for name, h in handles.items()
    }
    for name in ("model", "reward_model", "prompts"):
        if given[name] is None:
            raise ConfigurationError(
                f"run {run['run_id']!r} was started with an object as its {name} "
                f"({run['policy' if name == 'model' else name]!r}), which no database can hold. "
                f"Give {name}=... to resume it."
            )
    for name, each in given.items():
        if handles.get(name) is None and has_hidden(each):
            raise ConfigurationError(
                f"run {run['run_id']!r} was started with {name}={each!r}, and what stands as "
                f"{HIDDEN!r} is kept nowhere. Give {name}=... again "
                f"(--{name.replace('_', '-')} SPEC)."
            )
    before: dict[str, Any] = launch.get("options") or {}
    for role in ("model", "reward_model", "critic"):
        now = options.get(f"{role}_options")
        if now is not None:
            given[role] = connected(given[role], now, role)
        else:
            given[role] = reconnected(given[role], before.get(role), role)
    reward_model = as_reward_model(given["reward_model"])
    need_same_rewards(run, reward_model)
    prompts = given["prompts"]
    strategies: Sequence[Strategy] = options.get("strategies") or ()
    for kind in KINDS:
        if name := run["settings"].get(kind):
            named(kind, name, by_name(strategies))  # or what is left of the run would be refused
    return create_tpo_graph(
        load_chat_model(given["model"]),
        reward_model,
        critic=given["critic"],
        prompts=prompts if isinstance(prompts, PromptSet) else load_prompts(prompts),
        cache=store.cache.reusing(launch.get("reuse_scores", True)),
        checkpointer=store.checkpointer,
        strategies=strategies,
    )
