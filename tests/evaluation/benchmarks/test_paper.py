"""The paper's tables: every cell's commands are valid, the page says the same, the dry run runs."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from tpo_graph.cli import tpo
from tpo_graph.costs import paper_flops
from tpo_graph.evaluation.benchmarks import BENCHMARKS

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "examples" / "paper" / "table.py"
ROWS = tomllib.loads((SCRIPT.parent / "rows.toml").read_text(encoding="utf-8"))


def table(*arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def parse(words: list[str]) -> str:
    """The command that the words call; raises what it would say to a wrong call."""
    command: click.Command = tpo
    name = "tpo"
    while isinstance(command, click.Group):
        name, *words = words
        command = command.commands[name]
    command.make_context(name, words)
    return name


def test_every_cell_of_the_tables_is_valid_commands(tmp_path: Path):
    for folder in ("prompts", *ROWS):
        (tmp_path / folder).mkdir()
        for name in BENCHMARKS:
            (tmp_path / folder / f"{name}.jsonl").touch()
    printed = table("--row", *ROWS, "--judge", "openai:gpt-5", "--out", tmp_path, "--print")
    calls: list[str] = []
    for line in printed.splitlines():
        words = shlex.split(line.removeprefix("$ ").partition(" > ")[0])
        if words[0] == "OPENAI_BASE_URL=http://localhost:8000/v1":
            del words[0]
        assert words[0] in ("tpo", "mkdir"), line
        if words[0] == "tpo":
            calls.append(parse(words[1:]))
    cells = len(ROWS) * len(BENCHMARKS)
    assert calls.count("batch") == calls.count("export") == cells
    baselines = sum("against" not in row for row in ROWS.values())
    assert calls.count("score") == cells - 2 * baselines
    assert f"{tmp_path}/sft-tpo/model_answer/sft-tpo.jsonl" in printed
    tulu = next(line for line in printed.splitlines() if "score hh-rlhf" in line and "tulu" in line)
    assert "--reward-model 'vllm:http://localhost:8001#sfairXC/FsfairX-LLaMA3-RM-v0.1'" in tulu


def test_the_page_has_every_row_with_its_models_and_numbers():
    page = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    cells = {
        row: re.findall(r"-?\d+\.\d", line.partition("D2-N5 |")[2] or line)
        for line in page.splitlines()
        if (row := line.removeprefix("| `").partition("`")[0]) in ROWS
    }
    assert {row: [float(cell) for cell in found] for row, found in cells.items()} == {
        row: setting["paper"] for row, setting in ROWS.items()
    }
    for setting in ROWS.values():
        assert f"`{setting['policy']}`" in page
        assert f"`{setting['reward_model']}`" in page


def test_the_page_has_the_costs_that_the_code_computes():
    page = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    sizes = [known.size for known in BENCHMARKS.values()]
    for title, width, depth in (("one sample", 1, 0), ("D2-N5", 5, 2), ("D5-N20", 20, 5)):
        each = paper_flops(width, depth) / 1e15
        numbers = [f"{each * size:,.0f}" for size in (*sizes, sum(sizes))]
        assert f"| {title} | {' | '.join(numbers)} |" in page


@pytest.mark.slow
def test_the_dry_run_runs_all_six_benchmarks_end_to_end(tmp_path: Path):
    dry_run = ("--dry-run", "--row", "sft-tpo", "--limit", 1, "--out", tmp_path)
    printed = table(*dry_run)
    assert printed.count("DRY RUN") == 2
    assert not {row["label"].strip() for row in ROWS.values() if row["label"].strip() in printed}
    header, shown = printed.split("DRY RUN")[1].splitlines()[1:]
    assert header.split()[-1] == "MATH-500"
    cells = shown.removeprefix("offline, D2-N5").split()
    assert cells[0] == "-"
    assert all(re.fullmatch(r"-?\d+\.\d\*?", cell) for cell in cells[1:]), cells
    assert len(cells) == 7
    # The baseline was answered too, where a judge compares with it.
    for row in ("sft", "sft-tpo"):
        assert (tmp_path / row / "model_answer" / f"{row}.jsonl").is_file()
    again = table(*dry_run, "--benchmark", "xstest")
    assert again.split("DRY RUN")[1] == printed.split("DRY RUN")[1]
