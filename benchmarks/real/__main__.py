"""Measure prompt sets on a published model: `python -m benchmarks.real rewrites --help`.

    python -m benchmarks.real rewrites --model openai:NAME --base-url http://localhost:8000/v1 \
        --family requirements --arms tpo none:tpo reasons:tpo --store results.jsonl
    python -m benchmarks.real table results.jsonl
"""

import argparse
import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.real import humaneval, requirements
from benchmarks.real.rewrites import Plan, measure, read
from benchmarks.real.table import table
from benchmarks.real.tasks import Task
from tpo_graph.errors import TPOError
from tpo_graph.models import load_chat_model

_CRITIQUE, _ANSWER, _PROMPT = 200, 80, 1000
"""Tokens of a loss or gradient, of an answer, and of the prompts of one arm, as measured."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the subcommand."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real", description=__doc__)
    commands = parser.add_subparsers(required=True)
    rewrites = commands.add_parser("rewrites", help="rewrites against fresh samples")
    rewrites.add_argument("--model", required=True, help='such as "openai:NAME"')
    rewrites.add_argument("--base-url", help="of a compatible server")
    rewrites.add_argument("--family", choices=("requirements", "humaneval"), required=True)
    rewrites.add_argument("--data", type=Path, help="HumanEval.jsonl.gz, for humaneval")
    rewrites.add_argument("--part", choices=("development", "held-out"), default="development")
    rewrites.add_argument("--arms", nargs="+", default=["tpo", "none:tpo", "reasons:tpo"])
    rewrites.add_argument("--tasks", type=int, help="the first so many of the part")
    rewrites.add_argument("--store", type=Path, required=True, help="results; resumed when there")
    rewrites.add_argument("--firsts", type=int, default=5)
    rewrites.add_argument("--rewrites", type=int, default=4)
    rewrites.add_argument("--max-tokens", type=int, default=256)
    rewrites.add_argument("--critique-tokens", type=int, default=256)
    rewrites.add_argument("--in-flight", type=int, default=4)
    rewrites.add_argument("--tokens-per-second", type=float, help="of the server, for the estimate")
    rewrites.set_defaults(command=_rewrites)
    shown = commands.add_parser("table", help="print the table of a store")
    shown.add_argument("store", type=Path)
    shown.add_argument("--part", default="development")
    shown.set_defaults(command=lambda given: print(table(read(given.store), given.part)))
    given = parser.parse_args(arguments)
    given.command(given)


def _tasks(given: argparse.Namespace) -> list[Task]:
    if given.family == "humaneval":
        if given.data is None:
            raise SystemExit("humaneval needs --data PATH of HumanEval.jsonl.gz")
        tasks = humaneval.load(given.data)
    else:
        tasks = requirements.load()
    return [task for task in tasks if task.part == given.part][: given.tasks]


def _rewrites(given: argparse.Namespace) -> None:
    tasks = _tasks(given)
    critics = sum(":" not in arm for arm in given.arms)
    critiques = 2 * critics * _CRITIQUE
    answers = (given.firsts + given.rewrites * len(given.arms)) * _ANSWER
    completion, prompt = (critiques + answers) * len(tasks), _PROMPT * critics * len(tasks)
    calls = (1 + len(given.arms) + 2 * critics) * len(tasks)
    print(f"{len(tasks)} tasks, at most {calls} calls, about {completion:,} completion tokens and")
    print(f"{prompt:,} prompt tokens", end="")
    if given.tokens_per_second:
        print(f", {completion / given.tokens_per_second / 60:.0f} minutes", end="")
    print(f"; run it again to resume. Results: {given.store}", flush=True)
    if given.base_url:
        os.environ["OPENAI_BASE_URL"] = given.base_url
        os.environ.setdefault("OPENAI_API_KEY", "none")
    plan = Plan(
        name=given.model.rpartition(":")[2],
        model=load_chat_model(given.model),
        arms=given.arms,
        store=given.store,
        firsts=given.firsts,
        rewrites=given.rewrites,
        max_tokens=given.max_tokens,
        critique_tokens=given.critique_tokens,
        in_flight=given.in_flight,
    )
    try:
        asyncio.run(measure(plan, tasks))
    except TPOError as error:
        raise SystemExit(f"Error: {error} Run the same command again to resume.") from None


if __name__ == "__main__":
    main()
