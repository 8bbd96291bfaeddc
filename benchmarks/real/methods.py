"""Whole runs: TPO, revision and no critique, against best-of-N of the same samples.

Per task `samples` are drawn once: the first five begin every run (as `drafts`), all of them make
best-of-N. So differences are paired, and a method is never compared with luckier first samples.
Arms are those of `rewrites`: `SET` (the critic sees scores only), `informed:SET` (it reads what the
checker found wrong as well), `none:SET` (one standing line in place of every loss and gradient),
`reasons:SET` (the same line, and the update reads what the checker found, where SET shows it).
SET may also be a method's name (`tpo_graph.strategies.methods`): its prompts and strategies.
"""

import asyncio
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.messages import HumanMessage

from benchmarks.real.rewrites import (
    STANDING,
    TEMPERATURE,
    TOKENS,
    Plan,
    Record,
    about,
    append,
    draw,
    judged,
    prompt_set,
    read,
)
from benchmarks.real.table import groups, shown
from benchmarks.real.tasks import Task
from tpo_graph import TPOContext, create_tpo_graph
from tpo_graph.strategies.methods import METHODS, method_settings

WIDTH = 5


async def measure(plan: Plan, tasks: Sequence[Task], *, depth: int, samples: int) -> None:
    """Run what is not in the store yet; tasks side by side, the arms of a task in their order."""
    done = {(r["task"], r["arm"]): r for r in read(plan.store) if r["model"] == plan.name}
    limit = asyncio.Semaphore(plan.in_flight)

    async def one(task: Task) -> None:
        async with limit:
            drawn = done.get((task.id, "samples"))
            if drawn is None:
                drawn = await _samples(plan, task, samples)
                append(plan.store, drawn)
            else:
                task.drawn(drawn["texts"])
            for arm in plan.arms:
                if (task.id, arm) not in done and drawn["texts"]:
                    append(plan.store, await _run(plan, task, arm, depth, drawn["texts"][:WIDTH]))

    await asyncio.gather(*(one(task) for task in tasks))


async def _samples(plan: Plan, task: Task, samples: int) -> Record:
    drawn = await draw(plan, [HumanMessage(task.request)], samples, plan.max_tokens)
    task.drawn(drawn.texts)
    return {
        **about(plan, task, "samples"),
        "request": task.request,
        **await judged(task, drawn.texts),
        **{name: drawn.usage[name] for name in TOKENS},
    }


async def _run(plan: Plan, task: Task, arm: str, depth: int, drafts: list[str]) -> Record:
    control, _, name = arm.rpartition(":")

    def scored(query: str, response: str) -> float:
        reward = task.reward(response)
        return reward if control in ("informed", "reasons") else float(reward)

    critic: BaseChatModel | None = None
    if control in ("none", "reasons"):
        critic = FakeListChatModel(responses=[STANDING])  # a control, not a model
    strategies = method_settings(name) if name in METHODS else {"prompts": name}
    prompts = prompt_set(strategies.pop("prompts"))
    graph = create_tpo_graph(plan.model, scored, critic=critic, prompts=prompts)
    context = {
        "width": len(drafts),
        "depth": depth,
        "temperature": TEMPERATURE,
        "top_p": plan.top_p,
        "critic_top_p": max(plan.top_p, TPOContext().critic_top_p or 1),  # its own, or 1 with 1
        "max_tokens": plan.max_tokens,
        "critic_max_tokens": plan.critique_tokens,
        "seed": plan.seed,
        "target_reward": 1.0,
        **strategies,
    }
    steps: list[dict[str, Any]] = []
    state: dict[str, Any] = {}
    given: Any = {"messages": [HumanMessage(task.request)], "drafts": drafts}
    run = graph.astream(given, context=context, stream_mode=["updates", "values"])  # pyright: ignore[reportArgumentType, reportUnknownMemberType]
    async for mode, told in run:
        if mode == "values":
            state = told
            continue
        for node, change in told.items():
            kept = {k: change[k] for k in ("loss", "gradient", "samples", "rewards") if k in change}
            if node in ("loss", "gradient", "update", "reward_score"):
                steps.append({"node": node, **kept})
    answer, usage = state["messages"][-1].text, list(state["usage"].values())
    picked = state.get("answer") or state["chosen"]
    return {
        **about(plan, task, arm),
        "answer": answer,
        "answer_iteration": picked["iteration"],
        "reward": picked["reward"],
        "score": await asyncio.to_thread(task.score, answer),
        "stop_reason": state["stop_reason"],
        "steps": steps,
        **{name: sum(stage[name] for stage in usage) for name in (*TOKENS, "unusable")},
    }


def best_of(drawn: Record, n: int) -> tuple[float, float]:
    """Reward and score of the best of the first n samples; ties go to the earliest."""
    best = max(range(len(drawn["texts"][:n])), key=lambda i: (drawn["rewards"][i], -i))
    return drawn["rewards"][best], drawn["scores"][best]


HEAD = (
    "| model, tasks | method | n | reward | score | minus {against}, score | minus best-of-15 "
    "| minus best-of-N at its tokens | minus best-of-2N | completion tokens "
    "| prompt tokens (cached) |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def table(records: Sequence[Record], part: str, against: str | None = None) -> str:
    """Markdown: means over the tasks that every method finished, differences paired by task.

    Args:
        records: of a store of `measure`.
        part: of the tasks, "development" or "held-out".
        against: the arm that every other is compared with; the first of TPO's own by default.
    """
    lines: list[str] = []
    mine = [r for r in records if r["part"] == part and ("answer" in r or r["arm"] == "samples")]
    for of, group in groups(mine):
        drawn = {r["task"]: r for r in group if r["arm"] == "samples"}
        arms: dict[str, dict[str, Record]] = {}
        for record in group:
            if "answer" in record:
                arms.setdefault(record["arm"], {})[record["task"]] = record
        tasks = sorted(set(drawn).intersection(*arms.values()))
        if not tasks:
            continue
        base = against or next((arm for arm in ("informed:tpo", "tpo") if arm in arms), None)
        other = [arms[base][task] for task in tasks] if base in arms else None
        lines += [HEAD.format(against=base)] if not lines else []
        where = f"| {of}"
        pools = [drawn[task] for task in tasks]
        lines += [f"{where} {_best_of_line(pools, n, other)}" for n in (1, WIDTH, 15)]
        for arm, found in sorted(arms.items()):
            rows = [found[task] for task in tasks]
            lines.append(f"{where} {_line(arm, rows, pools, None if arm == base else other)}")
    return "\n".join(lines) or f"no task of the part {part!r} was finished by every arm"


def _each(drawn: Record) -> float:
    """Completion tokens of one sample."""
    return drawn["completion_tokens"] / max(1, len(drawn["texts"]))


def _minus(scores: Sequence[float], other: Sequence[Record] | None) -> str:
    if other is None:
        return ""
    return shown([score - o["score"] for score, o in zip(scores, other, strict=True)])


def _best_of_line(pools: list[Record], n: int, other: list[Record] | None) -> str:
    found = [best_of(drawn, n) for drawn in pools]
    gaps = [f[1] - best_of(drawn, 15)[1] for f, drawn in zip(found, pools, strict=True)]
    tokens = fmean(n * _each(drawn) for drawn in pools)
    prompt = fmean(drawn["prompt_tokens"] for drawn in pools)
    name = "first sample" if n == 1 else f"best-of-{n}"
    return (
        f"| {name} | {len(pools)} | {fmean(f[0] for f in found):.3f} "
        f"| {fmean(f[1] for f in found):.3f} | {_minus([f[1] for f in found], other)} "
        f"| {'' if n == 15 else shown(gaps)} | | | {tokens:.0f} | {prompt:.0f} |"
    )


def _line(arm: str, rows: list[Record], pools: list[Record], other: list[Record] | None) -> str:
    pairs = list(zip(rows, pools, strict=True))
    scores = [row["score"] for row in rows]
    equal = [round(WIDTH + row["completion_tokens"] / _each(drawn)) for row, drawn in pairs]

    def minus_best_of(numbers: Sequence[int]) -> str:
        gaps = [s - best_of(d, n)[1] for s, d, n in zip(scores, pools, numbers, strict=True)]
        short = any(n > len(d["texts"]) for d, n in zip(pools, numbers, strict=True))
        return shown(gaps) + " (fewer samples drawn)" * short

    tokens = fmean(row["completion_tokens"] + WIDTH * _each(drawn) for row, drawn in pairs)
    prompt, cached = (fmean(row[k] for row in rows) for k in ("prompt_tokens", "cached_tokens"))
    return (
        f"| {arm} | {len(rows)} | {fmean(r['reward'] for r in rows):.3f} "
        f"| {fmean(scores):.3f} | {_minus(scores, other)} | {minus_best_of([15] * len(rows))} "
        f"| {minus_best_of(equal)} | {minus_best_of([2 * n for n in equal])} "
        f"| {tokens:.0f} | {prompt:.0f} ({cached:.0f}) |"
    )
