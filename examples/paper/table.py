"""Cells of the paper's tables 1 and 2, each by the commands that are printed as they run.

    python examples/paper/table.py --row sft-tpo --benchmark hh-rlhf     # one cell
    python examples/paper/table.py --row sft-tpo                         # one row
    python examples/paper/table.py --row sft-tpo --print                 # only show the commands
    python examples/paper/table.py --dry-run                             # offline models, fixtures

docs/paper.md has the servers to start before, the costs, and where this departs from the paper.
What is there already is not done again: the same call goes on where it was.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROWS: dict[str, dict[str, Any]] = tomllib.loads((HERE / "rows.toml").read_text())
EXPORTS = {
    "alpaca-eval": "alpaca_eval.json",
    "arena-hard": "model_answer/{row}.jsonl",
    "hh-rlhf": "hh_rlhf.jsonl",
    "beavertails": "beavertails.json",
    "xstest": "xstest.json",
    "math-500": "math_500.csv",
}
COMPARED = ("alpaca-eval", "arena-hard")
REWARDED = ("hh-rlhf", "beavertails")
METRIC = "sfairXC/FsfairX-LLaMA3-RM-v0.1"
"""Its rewards are what the tables show."""
COLUMNS = ("AlpacaEval LC", "WR", "Arena-Hard", "HH-RLHF", "BeaverTails", "XSTest", "MATH-500")
DRY = "DRY RUN: tiny models, made-up prompts, a judge of lengths. The numbers mean nothing."


def main() -> None:
    options = arguments()
    with ExitStack() as stack:
        if options.dry_run:
            from stand_in import serve

            options.wildguard_url = stack.enter_context(serve())
            os.environ |= {"OPENAI_BASE_URL": f"{options.wildguard_url}/v1", "OPENAI_API_KEY": "-"}
            options.judge = "openai:stand-in"
        for name in options.benchmark:
            make_prompts(name, options)
            compared_with = {ROWS[row].get("against") for row in options.row if name in COMPARED}
            for row in ROWS:
                if row in options.row or row in compared_with:
                    answer(row, name, options)
            for row in options.row:
                evaluate(row, name, options)
    if not options.print:
        show(options)


def make_prompts(name: str, options: argparse.Namespace) -> None:
    command = ["tpo", "benchmark", "prompts", name, "-o", options.out / "prompts" / f"{name}.jsonl"]
    if options.dry_run:
        command += ["--file", next((HERE / "fixtures").glob(f"{name}.*"))]
    run([*command, *(["--limit", options.limit] if options.limit else [])], options)


def answer(row: str, name: str, options: argparse.Namespace) -> None:
    """The answers, and the same in a file for the official tool."""
    prompts, out = options.out / "prompts" / f"{name}.jsonl", options.out / row / f"{name}.jsonl"
    database = options.database or f"sqlite:///{options.out}/tpo.db"
    setting = ROWS[row]
    run(["mkdir", "-p", out.parent], options)
    command = ["tpo", "batch", prompts, "--output", out, "--database", database]
    command += ["--width", setting["width"], "--depth", setting["depth"], "--seed", 7]
    if options.dry_run:
        run([*command, "--config", HERE.parent / "offline" / "tpo.toml"], options)
    else:
        models = ["--model", f"openai:{setting['policy']}"]
        models += ["--reward-model", reward_model(setting["reward_model"], options)]
        run([*command, *models], options, OPENAI_BASE_URL=options.policy_url)
    exported = options.out / row / EXPORTS[name].format(row=row)
    run(["tpo", "benchmark", "export", name, out, "--generator", row, "-o", exported], options)


def reward_model(name: str, options: argparse.Namespace) -> str:
    url = options.fsfairx_url if name == METRIC else options.tulu_url
    return f"vllm:{url}#{name}"


def evaluate(row: str, name: str, options: argparse.Namespace) -> None:
    """The metric, as JSON beside the answers."""
    setting, out = ROWS[row], options.out / row / f"{name}.jsonl"
    command = ["tpo", "benchmark", "score", name, out, "--json"]
    if name in COMPARED:
        if "against" not in setting or not options.judge:
            return  # what the others are compared with, or nobody who could compare
        command += ["--judge", options.judge]
        command += ["--against", options.out / setting["against"] / f"{name}.jsonl"]
    if name == "xstest":
        command += ["--judge", f"wildguard:{options.wildguard_url}#allenai/wildguard"]
    if name in REWARDED and setting["reward_model"] != METRIC and not options.dry_run:
        command += ["--reward-model", reward_model(METRIC, options)]
    run(command, options, output=scored(row, name, options))


def run(command: list[Any], options: argparse.Namespace, output: Path | None = None, **env: str):
    """Print a command as one would type it; run it unless only to be shown."""
    words = [str(word) for word in command]
    typed = [*(f"{name}={shlex.quote(value)}" for name, value in env.items()), shlex.join(words)]
    print("$ " + " ".join(typed) + (f" > {output}" if output else ""), flush=True)
    if options.print:
        return
    if words[0] == "tpo":
        words[0] = str(Path(sys.executable).parent / words[0])
    caught = subprocess.PIPE if output else None
    done = subprocess.run(words, env={**os.environ, **env}, stdout=caught)
    # tpo batch says so with 1 when rows failed; their place in the table gets a star.
    if done.returncode and not (command[1] == "batch" and done.returncode == 1):
        sys.exit(f"that command ended with {done.returncode}")
    if output:
        output.write_bytes(done.stdout)


def show(options: argparse.Namespace) -> None:
    """The table: what was found, with the paper's numbers in brackets."""
    dry = options.dry_run
    width = max(len(setting["label"]) for setting in ROWS.values())
    print()
    if dry:
        print(DRY)
    print(" " * width, *(f"{title:>15}" for title in COLUMNS))
    for row, setting in ROWS.items():
        cells = list(cells_of(row, options))
        if all(cell == "-" for cell in cells):
            continue
        label = f"offline, D{setting['depth']}-N{setting['width']}" if dry else setting["label"]
        if not dry:
            cells = [f"{c} ({p})" for c, p in zip(cells, setting["paper"], strict=True)]
        print(f"{label:<{width}}", *(f"{cell:>15}" for cell in cells))
    if dry:
        print(DRY)
    else:
        print("AlpacaEval and Arena-Hard: win rate against the policy without TPO, by your judge.")
        print("In brackets: the paper. *: some rows have no score; tpo benchmark score says which.")


def cells_of(row: str, options: argparse.Namespace) -> Iterator[str]:
    yield "-"  # length-controlled: only alpaca_eval itself has it
    for name in EXPORTS:
        file = scored(row, name, options)
        found = json.loads(file.read_text()) if file.exists() else {"mean": None}
        if found["mean"] is None:
            yield "-"
            continue
        value = found["mean"]["value"] * (100 if found["share"] else 1)
        yield f"{value:.1f}" + ("*" if found["scored"] < found["rows"] else "")


def scored(row: str, name: str, options: argparse.Namespace) -> Path:
    return options.out / row / f"{name}.score.json"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--row", nargs="+", choices=ROWS, help="rows.toml has what they are")
    parser.add_argument("--benchmark", nargs="+", choices=EXPORTS, default=list(EXPORTS))
    parser.add_argument("--out", type=Path, default=Path("paper-runs"))
    parser.add_argument("--database", help="default: tpo.db in --out")
    parser.add_argument("--limit", type=int, help="so many prompts per benchmark")
    parser.add_argument("--judge", help="of AlpacaEval and Arena-Hard, such as openai:gpt-5")
    parser.add_argument("--policy-url", default="http://localhost:8000/v1")
    parser.add_argument("--fsfairx-url", default="http://localhost:8001")
    parser.add_argument("--tulu-url", default="http://localhost:8003", help="Tulu-3-8B-RM")
    parser.add_argument("--wildguard-url", default="http://localhost:8002")
    parser.add_argument("--print", action="store_true", help="only show the commands")
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    if options.row is None:
        if not options.dry_run:
            parser.error("--row is needed, or --dry-run")
        options.row = ["sft", "sft-tpo"]
    return options


if __name__ == "__main__":
    main()
