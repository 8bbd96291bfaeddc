"""Measure prompt sets on a published model: `python -m benchmarks.real rewrites --help`.

    python -m benchmarks.real rewrites --model openai:NAME --base-url http://localhost:8000/v1 \
        --family requirements --arms tpo none:tpo reasons:tpo --store rewrites.jsonl
    python -m benchmarks.real methods --model openai:NAME --base-url http://localhost:8000/v1 \
        --family requirements --part held-out --arms tpo revision none:tpo --store methods.jsonl
    python -m benchmarks.real table rewrites.jsonl
    python -m benchmarks.real trajectories methods.jsonl --arm tpo
"""

import argparse
import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path

from openai import OpenAIError

from benchmarks.pipes import quiet_pipe
from benchmarks.real import methods, rewrites
from benchmarks.real.busy import measure as measure_busy
from benchmarks.real.busy import report as report_busy
from benchmarks.real.reward_server import agree
from benchmarks.real.rewrites import Plan, Record, read
from benchmarks.real.signals import FILES, OWN, tasks
from benchmarks.real.table import table
from benchmarks.real.tasks import Task
from benchmarks.real.trajectories import trajectories
from tpo_graph.errors import TPOError
from tpo_graph.models.load import load_chat_model

_CRITIQUE, _ANSWER, _PROMPT = 200, 80, 1000
"""Tokens of a loss or gradient, of an answer, and of the prompts of one iteration, as measured."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the subcommand."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real", description=__doc__)
    commands = parser.add_subparsers(required=True)
    one = _measuring(commands.add_parser("rewrites", help="rewrites against fresh samples"))
    one.add_argument("--firsts", type=int, default=5)
    one.add_argument("--rewrites", type=int, default=4)
    one.add_argument(
        "--room", action="store_true", help="only tasks whose best first sample can be bettered"
    )
    one.set_defaults(command=_rewrites, arms=["tpo", "none:tpo", "reasons:tpo"])
    runs = _measuring(commands.add_parser("methods", help="whole runs against best-of-N"))
    runs.add_argument("--depth", type=int, default=2)
    runs.add_argument("--samples", type=int, default=25, help="drawn per task, for best-of-N")
    runs.set_defaults(command=_methods, arms=["tpo", "revision", "none:tpo"])
    shown = commands.add_parser("table", help="print the table of a store")
    shown.add_argument("store", type=Path)
    shown.add_argument("--part", choices=("development", "held-out"), default="development")
    shown.add_argument("--against", metavar="ARM", help="the arm that the others are compared with")
    shown.set_defaults(command=_table)
    told = commands.add_parser("trajectories", help="print runs of `methods` as Markdown")
    told.add_argument("store", type=Path)
    told.add_argument("--arm", default="tpo")
    told.add_argument("--first", type=int, default=10, help="how many, in the order of the tasks")
    told.set_defaults(command=lambda g: print(trajectories(_stored(g), g.arm, g.first)))
    asked = commands.add_parser("prompts", help="the tasks of TPO_TASKS, for `tpo compare`")
    asked.add_argument("--part", choices=("development", "held-out"), default="held-out")
    asked.set_defaults(command=_prompts)
    served = commands.add_parser("rewards", help="a reward server against the same weights here")
    served.add_argument("--local", required=True, help='such as "local:FOLDER"')
    served.add_argument("--server", required=True, help='such as "vllm:http://localhost:8000#NAME"')
    served.set_defaults(command=lambda g: agree(g.local, g.server))
    busy = commands.add_parser("busy", help="a batch against a bare client, in tokens per second")
    busy.add_argument("--model", required=True, help="its name on the server")
    busy.add_argument("--base-url", required=True, help="of a compatible server")
    numbers = {
        "rows": (24, "questions of each side"),
        "width": (5, "replies to each"),
        "max-tokens": (64, "of a reply"),
        "rounds": (1, "of all sides; medians are compared"),
    }
    for name, (default, what) in numbers.items():
        busy.add_argument(f"--{name}", type=_positive, default=default, help=f"{what} ({default})")
    busy.add_argument(
        "--in-flight",
        type=_positive,
        nargs="+",
        default=[4, 8, 16],
        help="requests of the bare client at once, a side each (4 8 16)",
    )
    busy.set_defaults(command=_busy)
    given = parser.parse_args(arguments)
    try:
        with quiet_pipe():
            given.command(given)
    except TPOError as error:
        raise SystemExit(f"Error: {error} Run the same command again to resume.") from None


def _served_at(base_url: str | None) -> None:
    if base_url:
        os.environ["OPENAI_BASE_URL"] = base_url
        os.environ.setdefault("OPENAI_API_KEY", "none")


def _busy(given: argparse.Namespace) -> None:
    _served_at(given.base_url)
    options = {name: getattr(given, name) for name in ("rows", "width", "max_tokens", "rounds")}
    try:
        speeds = asyncio.run(measure_busy(given.model, given.in_flight, **options))
    except OpenAIError as error:
        raise SystemExit(
            f"Error: {given.model!r} at {given.base_url}: {error} Start the server, or correct "
            "--base-url and --model."
        ) from None
    print(report_busy(speeds))


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _measuring(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--model", required=True, help='such as "openai:NAME"')
    parser.add_argument("--base-url", help="of a compatible server")
    parser.add_argument("--family", choices=(*OWN, *FILES), required=True)
    parser.add_argument("--data", type=Path, help="the family's file: HumanEval.jsonl.gz, ...")
    parser.add_argument("--part", choices=("development", "held-out"), default="development")
    parser.add_argument("--arms", nargs="+", help="prompt sets and controls (see the module)")
    parser.add_argument("--tasks", type=int, help="the first so many of the part")
    parser.add_argument("--store", type=Path, required=True, help="results; resumed when there")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--critique-tokens", type=int, default=256)
    parser.add_argument(
        "--top-p",
        type=float,
        default=0.95,
        help="of the answers; 1 is for the critic too, and twice as fast without a GPU",
    )
    parser.add_argument("--in-flight", type=int, default=4, help="tasks side by side")
    parser.add_argument("--tokens-per-second", type=float, help="of the server, for the estimate")
    return parser


def _tasks(given: argparse.Namespace) -> list[Task]:
    if given.family in OWN:
        tasks = OWN[given.family]()
    else:
        load, name = FILES[given.family]
        if given.data is None or not given.data.is_file():
            raise SystemExit(f"{given.family} needs --data PATH of {name}, not {given.data!s}")
        tasks = load(given.data)
    return [task for task in tasks if task.part == given.part][: given.tasks]


def _prompts(given: argparse.Namespace) -> None:
    for task in tasks().values():
        if task.part == given.part:
            print(json.dumps({"id": task.id, "prompt": task.request}))


def _rewrites(given: argparse.Namespace) -> None:
    plan, tasks = _plan(given), _tasks(given)
    _announce(given, tasks, firsts=given.firsts, iterations=1, each=given.rewrites)
    asyncio.run(rewrites.measure(plan, tasks))


def _methods(given: argparse.Namespace) -> None:
    plan, tasks = _plan(given), _tasks(given)
    width = methods.WIDTH
    _announce(given, tasks, firsts=given.samples, iterations=given.depth, each=width)
    asyncio.run(methods.measure(plan, tasks, depth=given.depth, samples=given.samples))


def _plan(given: argparse.Namespace) -> Plan:
    _served_at(given.base_url)
    return Plan(
        name=given.model.rpartition(":")[2],
        model=load_chat_model(given.model),
        arms=given.arms,
        store=given.store,
        firsts=getattr(given, "firsts", methods.WIDTH),
        rewrites=getattr(given, "rewrites", methods.WIDTH),
        max_tokens=given.max_tokens,
        critique_tokens=given.critique_tokens,
        top_p=given.top_p,
        in_flight=given.in_flight,
        room=getattr(given, "room", False),
    )


def _announce(
    given: argparse.Namespace, tasks: Sequence[Task], *, firsts: int, iterations: int, each: int
) -> None:
    """The expected cost, before anything is paid for."""
    critics = sum(arm.partition(":")[0] not in ("none", "reasons") for arm in given.arms)
    critiques = 2 * critics * _CRITIQUE * iterations
    answers = (firsts + each * len(given.arms) * iterations) * _ANSWER
    completion = (critiques + answers) * len(tasks)
    prompt = _PROMPT * critics * iterations * len(tasks)
    calls = (1 + (len(given.arms) + 2 * critics) * iterations) * len(tasks)
    print(f"{len(tasks)} tasks, at most {calls} calls, about {completion:,} completion tokens and")
    print(f"{prompt:,} prompt tokens", end="")
    if given.tokens_per_second:
        print(f", {completion / given.tokens_per_second / 60:.0f} minutes", end="")
    print(f"; run it again to resume. Results: {given.store}", flush=True)


def _stored(given: argparse.Namespace) -> list[Record]:
    if not given.store.is_file():
        raise SystemExit(
            f"there are no results at {str(given.store)!r}: measure with --store first"
        )
    return read(given.store)


def _table(given: argparse.Namespace) -> None:
    records = _stored(given)
    whole = any("answer" in record for record in records)
    known = sorted({r["arm"].partition("@")[0] for r in records} - {"samples", "first"})
    if given.against not in (None, *known):
        raise SystemExit(f"--against {given.against!r} is in no record: use {', '.join(known)}")
    print((methods.table if whole else table)(records, given.part, given.against))


if __name__ == "__main__":
    main()
