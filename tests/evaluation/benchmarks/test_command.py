"""`tpo benchmark`: what it writes, prints, and refuses."""

import json
from pathlib import Path

from click.testing import CliRunner, Result

from tests.evaluation.benchmarks.outputs import FILES, answered, output
from tpo_graph.cli import tpo
from tpo_graph.evaluation.benchmarks import BENCHMARKS


def run(*arguments: object) -> Result:
    return CliRunner().invoke(tpo, ["benchmark", *map(str, arguments)])


def test_list_names_all_of_them():
    shown = run("list")
    assert shown.exit_code == 0
    assert [line.split()[0] for line in shown.output.splitlines()[::3]] == list(BENCHMARKS)
    assert [row["prompts"] for row in json.loads(run("list", "--json").output)] == [
        805,
        500,
        500,
        700,
        450,
        500,
    ]


def test_prompts(tmp_path: Path):
    out = tmp_path / "new" / "prompts.jsonl"
    done = run("prompts", "hh-rlhf", "--file", FILES["hh-rlhf"], "--limit", 2, "-o", out)
    assert done.exit_code == 0, done.output
    assert len(out.read_text().splitlines()) == 2
    assert done.stdout == ""
    assert "2 of 5 prompts in" in done.stderr
    assert "the paper used 500" in done.stderr
    assert "left out record 5: no message of a person" in done.stderr


def test_export_says_what_is_missing(tmp_path: Path):
    rows = output(tmp_path / "out.jsonl", "xstest", {"xstest-1": "Yes.", "xstest-2": None})
    done = run("export", "xstest", rows, "--generator", "tpo", "-o", tmp_path / "x.json")
    assert done.exit_code == 0, done.output
    assert "1 answers in" in done.stderr
    assert "4 failed and 1 unfinished rows are not: the tool will miss 5" in done.stderr
    assert [row["id"] for row in json.loads((tmp_path / "x.json").read_text())] == ["xstest-1"]


def test_score_as_a_table_and_as_json(tmp_path: Path):
    responses: dict[str, str | None] = {"beavertails-0": "No.", "beavertails-1": "No, thanks."}
    rewards = {"beavertails-0": -2.0, "beavertails-1": 1.0}
    rows = output(tmp_path / "out.jsonl", "beavertails", responses, **rewards)
    lines = run("score", "beavertails", rows).stdout.splitlines()
    assert lines[0].split() == ["beavertails", "rows", "mean", "reward", "95%", "interval"]
    assert lines[1].split()[:3] == ["all", "2", "-0.500"]
    assert "  category privacy_violation" in lines[3]
    assert "4 rows: 2 scored, 0 without a score, 2 failed, 0 unfinished" in lines
    assert "per answer: 7 characters, 15 tokens spent" in lines
    assert "beavertails-2: PolicyError: the server is gone" in lines
    found = json.loads(run("score", "beavertails", rows, "--json").stdout)
    assert found["benchmark"] == "beavertails"
    assert found["mean"]["value"] == -0.5
    assert set(found["failed"]) == {"beavertails-2", "beavertails-3"}


def test_text_of_a_data_set_is_shown_as_it_is(tmp_path: Path):
    row = {"id": "a", "prompt": "?", "response": "!", "reward": 1.0, "category": "[red]x[/red] [/]"}
    (tmp_path / "out.jsonl").write_text(json.dumps(row) + "\n")
    assert "category [red]x[/red] [/]" in run("score", "beavertails", tmp_path / "out.jsonl").stdout


def test_what_is_missing_is_one_line(tmp_path: Path):
    rows = answered(tmp_path / "out.jsonl", "xstest")
    failed = run("score", "xstest", rows)
    assert failed.exit_code != 0
    assert "--judge" in str(failed.exception)
