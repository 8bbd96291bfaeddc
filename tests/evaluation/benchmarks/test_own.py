"""A user's own benchmark: a TOML file or an entry point, through the paper's commands."""

import json
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tpo_graph.cli import tpo
from tpo_graph.errors import ConfigurationError
from tpo_graph.evaluation.benchmarks import benchmark, load_prompts, own, own_benchmark

RECORDS = [
    {"uid": "a", "question": "Capital of {France}?", "answer": ["Paris", "Lutetia"], "topic": "x"},
    {"uid": "b", "question": "1 + 1?", "answer": "2", "topic": "y"},
    {"uid": "c", "question": "Sky?", "answer": "blue", "topic": "y"},
    {"uid": "d", "answer": "no question", "topic": "y"},
]
TRIVIA = """
data = "trivia.jsonl"
prompt = "{question} One word."
id = "uid"
expected = "answer"
parts = ["topic"]
scorer = "exact"
"""
RESPONSES = {"a": " paris. ", "b": "It is 2", "c": "blue"}


@pytest.fixture
def trivia(tmp_path: Path) -> Path:
    (tmp_path / "trivia.jsonl").write_text("\n".join(map(json.dumps, RECORDS)))
    file = tmp_path / "trivia.toml"
    file.write_text(TRIVIA)
    return file


def run(*arguments: object) -> Result:
    return CliRunner().invoke(tpo, ["benchmark", *map(str, arguments)])


def scored(file: Path, scorer: str, more: str = "") -> dict[str, Any]:
    """The score of the responses by this scorer, of prompts that the command has written."""
    file.write_text(TRIVIA.replace('"exact"', f'"{scorer}"') + more)
    prompts, out = file.parent / "prompts.jsonl", file.parent / "out.jsonl"
    made = run("prompts", file, "-o", prompts)
    assert made.exit_code == 0, made.output
    rows = [json.loads(line) for line in prompts.read_text().splitlines()]
    lines = [json.dumps({**row, "response": RESPONSES[row["id"]]}) for row in rows]
    out.write_text("\n".join(lines))
    done = run("score", file, out, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_prompts_are_made_of_the_records_and_what_lacks_a_question_is_counted(trivia: Path):
    made = load_prompts(str(trivia))
    assert [row["id"] for row in made.rows] == ["a", "b", "c"]
    assert made.rows[0]["prompt"] == "Capital of {France}? One word."
    assert "'question'" in made.skipped[3]
    assert "paper" not in run("prompts", trivia, "-o", trivia.parent / "p.jsonl").stderr


def test_the_scorers(trivia: Path):
    exact = scored(trivia, "exact")
    assert (exact["mean"]["value"], exact["share"]) == (pytest.approx(2 / 3), True)
    assert exact["parts"]["topic"]["y"]["mean"]["value"] == 0.5
    assert scored(trivia, "contains")["mean"]["value"] == 1.0
    (trivia.parent / "mine.py").write_text(
        "def rule(row, response):\n"
        "    if row['topic'] == 'x':\n"
        "        raise KeyError('no rule for x')\n"
        "    return len(response)\n"
    )
    mine = scored(trivia, "python:mine.py#rule")
    assert (mine["mean"]["value"], mine["share"]) == ((7 + 4) / 2, False)
    assert "no rule for x" in mine["without_score"]["a"]
    (trivia.parent / "reward.py").write_text("def score(query, response):\n    return 3.0\n")
    by_reward = scored(trivia, f"python:{trivia.parent / 'reward.py'}#score")
    assert by_reward["mean"]["value"] == 3.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('data = "trivia.jsonl"\nscorer = "exact"', "needs expected"),
        ('data = "trivia.jsonl"', "scorer"),
        ('data = "trivia.jsonl"\nscorer = "exact"\nexpectd = "a"', "did you mean 'expected'"),
        ('data = "trivia.jsonl"\nscorer = "python:none.py#f"', "none.py"),
    ],
)
def test_a_file_that_says_something_else_is_one_clear_error(trivia: Path, text: str, said: str):
    trivia.write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        own_benchmark(trivia)


def test_a_package_brings_one_as_an_entry_point(trivia: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(own, "BROUGHT", own_benchmark(trivia), raising=False)
    points = EntryPoints(
        [EntryPoint("quiz", "tpo_graph.evaluation.benchmarks.own:BROUGHT", own.GROUP)]
    )
    monkeypatch.setattr(own, "entry_points", lambda group: points.select(group=group))
    assert benchmark("quiz").metric == "exact"
    assert "trivia" in run("list").output
    with pytest.raises(ConfigurationError, match=r"no benchmark 'quizz'.*quiz.*TOML file"):
        benchmark("quizz")
