"""What rewrites are worth: against fresh samples, and against the answer they started from.

Per task five first samples, shared by all arms. Per arm one loss, one gradient and K rewrites of
the best first sample. That is one step of TPO, at a fraction of a comparison's price. Arms:

- a prompt set: a name (here, or in the package) or a folder;
- `informed:SET`: the same, and the critic reads what the checker found wrong;
- `none:SET`: its update, told one standing line instead of a critique;
- `reasons:SET`: its update, told only what the reward model found wrong.

Everything is appended to a JSON-lines file as it is finished: the same command resumes.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage

from benchmarks.real.tasks import Task
from tpo_graph.candidates import Candidate
from tpo_graph.conversation import Turn, transcript
from tpo_graph.models.sampling import Generated, generate
from tpo_graph.nodes.rendering import is_tie, reasons
from tpo_graph.prompts import PromptSet, load_prompts

STANDING = "Make it better: check every requirement of the request again and meet each one."
TEMPERATURE = 0.7
TOKENS = ("completion_tokens", "prompt_tokens", "cached_tokens")

Record = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is measured, and with what."""

    name: str
    """Of the model, in the results."""
    model: BaseChatModel
    arms: Sequence[str]
    store: Path
    firsts: int = 5
    rewrites: int = 4
    max_tokens: int = 256
    critique_tokens: int = 256
    top_p: float = 0.95
    seed: int | None = None
    in_flight: int = 4
    room: bool = False
    """Leave out the tasks whose best first sample has the highest reward, where no rewrite can be
    better than the chosen answer; without it, only those whose first samples all have it."""


def read(store: Path) -> list[Record]:
    """All finished records; a line that a kill cut short is left out."""
    records: list[Record] = []
    if store.exists():
        for line in store.read_text(encoding="utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return records


def append(store: Path, record: Record) -> None:
    """Keep a finished record."""
    with store.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, ensure_ascii=False) + "\n")


async def measure(plan: Plan, tasks: Sequence[Task]) -> None:
    """Run what is not in the store yet, task by task."""
    bench = _Bench(plan)
    limit = asyncio.Semaphore(plan.in_flight)

    async def one(task: Task) -> None:
        async with limit:
            await bench.task(task)

    await asyncio.gather(*(one(task) for task in tasks))


class _Bench:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.sets = {arm: prompt_set(arm.rpartition(":")[2]) for arm in plan.arms}
        self.done = {(r["task"], r["arm"]): r for r in read(plan.store) if r["model"] == plan.name}

    async def task(self, task: Task) -> None:
        first = self.done.get((task.id, "first"))
        if first is None:
            drawn = await self._ask([HumanMessage(task.request)], self.plan.firsts, None)
            task.drawn(drawn.texts)
            first = await self._keep(task, "first", drawn.texts, drawn)
        else:
            task.drawn(first["texts"])
        rewards: list[float] = first["rewards"]
        if not rewards or (max if self.plan.room else min)(rewards) == 1:
            return
        for arm in self.plan.arms:
            if (task.id, self._name(arm)) not in self.done:
                await self._rewrite(task, arm, first)

    async def _rewrite(self, task: Task, arm: str, first: Record) -> None:
        rewards: list[float] = first["rewards"]
        pair = (
            _candidate(first, rewards.index(max(rewards))),
            _candidate(first, rewards.index(min(rewards))),
        )
        chosen, tie = pair[0], is_tie(*pair)
        values = {
            "query": task.request,
            "conversation": transcript([Turn(role="user", content=task.request)]),
            "chosen": chosen["response"],
            "rejected": pair[1]["response"],
            "criteria": "",
            "reasons": "",
        }
        if arm.startswith("informed:"):
            values["reasons"] = reasons(chosen, None if tie else pair[1])
        prompts, calls = self.sets[arm], list[Generated]()
        if arm.startswith("none:"):
            values |= {"loss": "", "gradient": STANDING}
        elif arm.startswith("reasons:"):
            values |= {"loss": "", "gradient": chosen.get("reason") or STANDING}
        else:
            for stage in ("loss", "gradient"):
                if stage == "gradient" and values["reasons"]:
                    values["reasons"] = reasons(chosen, None)
                messages = prompts.render(stage, values, tie=tie).messages()
                calls.append(await self._ask(messages, 1, None, critic=True))
                values[stage] = calls[-1].texts[0] if calls[-1].texts else "-"
        messages = prompts.render("update", values, tie=tie).messages()
        tag = prompts.update.output_tag
        calls.append(await self._ask(messages, self.plan.rewrites, tag))
        more = {"chosen": chosen["response"], "chosen_reward": chosen["reward"], "tie": tie}
        more |= {stage: values[stage] for stage in ("loss", "gradient")}
        await self._keep(task, self._name(arm), calls[-1].texts, *calls, **more)

    def _name(self, arm: str) -> str:
        prompts: PromptSet = self.sets[arm]
        control, colon, _ = arm.rpartition(":")
        return f"{control}{colon}{Path(prompts.name).name}@{prompts.digest}"

    async def _ask(
        self, messages: Sequence[Any], n: int, tag: str | None, *, critic: bool = False
    ) -> Generated:
        limit = self.plan.critique_tokens if critic else self.plan.max_tokens
        return await draw(self.plan, messages, n, limit, tag)

    async def _keep(
        self, task: Task, arm: str, texts: list[str], *calls: Generated, **more: Any
    ) -> Record:
        record: Record = {
            **about(self.plan, task, arm),
            **await judged(task, texts),
            "unusable": len(calls[-1].unusable),
            **{name: sum(call.usage[name] for call in calls) for name in TOKENS},
            "seconds": round(sum(call.usage["seconds"] for call in calls), 1),
            **more,
        }
        append(self.plan.store, record)
        self.done[task.id, arm] = record
        print(f"{task.id:18} {arm:40} {record['rewards']} {record['seconds']} s", flush=True)
        return record


def about(plan: Plan, task: Task, arm: str) -> Record:
    """What a record is of."""
    return {"task": task.id, "part": task.part, "model": plan.name, "arm": arm}


async def judged(task: Task, texts: list[str]) -> Record:
    """Answers, what the method may know of them, and the truth."""
    rewards = [await asyncio.to_thread(task.reward, text) for text in texts]
    return {
        "texts": texts,
        "rewards": [float(reward) for reward in rewards],
        "reasons": [reward.reason for reward in rewards],
        "scores": [await asyncio.to_thread(task.score, text) for text in texts],
    }


async def draw(
    plan: Plan, messages: Sequence[Any], n: int, limit: int, tag: str | None = None
) -> Generated:
    """Samples of a prompt, of `limit` tokens at most."""
    sampling = {
        "temperature": TEMPERATURE,
        "top_p": plan.top_p,
        "max_tokens": limit,
        "seed": plan.seed,
    }
    return await generate(plan.model, messages, n, sampling, tag=tag)


def prompt_set(name: str) -> PromptSet:
    """A set of this bench by its name, else one that comes with the package, or a folder."""
    own = Path(__file__).parent / "prompts" / name
    return load_prompts(own if name and own.is_dir() else name)


def _candidate(first: Record, position: int) -> Candidate:
    return Candidate(
        iteration=0,
        position=position,
        reward=first["rewards"][position],
        response=first["texts"][position],
        reason=first["reasons"][position],
    )
