"""`tpo runs` and `tpo db`, through the commands, on runs that scripted models left."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from langchain_core.messages import HumanMessage, SystemMessage

from tpo_graph import optimize
from tpo_graph.cli import main, tpo
from tpo_graph.errors import ConfigurationError, RunNotFoundError
from tpo_graph.rewards import load
from tpo_graph.rewards.function import FunctionReward
from tpo_graph.testing import ScriptedChatModel, prefer_longer

DATABASE = "sqlite:///tpo.db"
SAMPLES = ["medium one", "the longest of them [bold]all[/]", "short", "also medium"]


@pytest.fixture
def stored() -> Iterator[None]:
    """Three runs in tpo.db; "third" answers a conversation, "second" has no pair."""
    queries: dict[str, Any] = {
        "first": "Why {x}?",
        "second": "Why not?",
        "third": [SystemMessage("Be brief."), HumanMessage("And why?")],
    }
    for run_id, query in queries.items():
        optimize(
            query,
            model=ScriptedChatModel(replies=["same"] if run_id == "second" else SAMPLES),
            reward_model=prefer_longer,
            database=DATABASE,
            run_id=run_id,
            depth=0,
            width=4,
        )
    return


def runs(*arguments: str) -> Result:
    return CliRunner().invoke(tpo, ["runs", *arguments])


@pytest.mark.usefixtures("stored")
def test_list_is_newest_first_and_filters():
    result = runs("list")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["third", "second", "first"]
    assert "Why {x}?" in lines[2]
    (newest,) = [
        json.loads(line)
        for line in runs("list", "--json", "--limit", "1").stdout.split("\n")
        if line
    ]
    assert (newest["run_id"], newest["candidates"], newest["status"]) == ("third", 4, "finished")
    assert newest["created_at"].endswith("Z")
    assert runs("list", "--json", "--status", "failed").stdout == ""
    assert len(runs("list", "--json", "--model", "ScriptedChatModel").stdout.splitlines()) == 3
    assert runs("list", "--json", "--model", "another").stdout == ""


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(
    "words",
    [
        ["runs", "show", "zzz"],
        ["runs", "list", "--batch", "zzz"],
        ["runs", "export", "--batch", "zzz"],
        ["batches", "show", "zzz"],
        ["report", "zzz"],
    ],
)
def test_what_does_not_exist_is_one_exit_code_everywhere(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["tpo", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    assert (ended.value.code, told.out) == (2, "")
    assert "'zzz'" in told.err


@pytest.mark.usefixtures("stored")
def test_show_tells_how_the_answer_came_about():
    result = runs("show", "first")
    assert result.exit_code == 0, result.output
    for part in ("Why {x}?", "iteration 0", "chosen", "rejected", "[bold]all[/]", "score cache"):
        assert part in result.stdout
    assert "iteration 0" not in runs("show", "first", "--iteration", "7").stdout
    whole = json.loads(runs("show", "first", "--json").stdout)
    assert [c["response"] for c in whole["candidates"]] == SAMPLES
    assert whole["usage"]["sample"]["requests"] == 1


def test_a_pipe_gets_whole_lines_that_end_with_their_last_word():
    words = " ".join(["because"] * 60)  # longer than any line of a terminal
    optimize(
        "Why?",
        model=ScriptedChatModel(replies=["short", words]),
        reward_model=prefer_longer,
        database=DATABASE,
        run_id="first",
        depth=0,
        width=2,
    )
    shown = runs("show", "first", "--full").stdout
    assert shown.startswith("run first  finished (depth)\n")
    assert f"\n  {words}\n" in shown
    for text in (shown, runs("list").stdout, runs("show", "first").stdout):
        assert [line for line in text.splitlines() if line != line.rstrip()] == []


@pytest.mark.usefixtures("stored")
def test_an_unknown_run_is_named():
    for command in ("show", "resume", "export"):
        error = runs(command, "nobody").exception
        assert isinstance(error, RunNotFoundError)
        assert "'nobody'" in str(error)


@pytest.mark.usefixtures("stored")
def test_preferences_load_as_trl_reads_them(tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    file = tmp_path / "pairs.jsonl"
    result = runs("export", "--format", "preferences", "--output", str(file))
    assert result.exit_code == 0, result.output
    data = datasets.load_dataset(
        "json", data_files=str(file), split="train", cache_dir=str(tmp_path / "cache")
    )
    # "second" has one text only, which cannot be preferred to itself.
    assert [row["prompt"][-1]["content"] for row in data] == ["Why {x}?", "And why?"]
    pair = data[1]
    assert [turn["role"] for turn in pair["prompt"]] == ["system", "user"]
    assert pair["chosen"] == [{"role": "assistant", "content": SAMPLES[1]}]
    assert pair["rejected"] == [{"role": "assistant", "content": "short"}]
    assert pair["score_chosen"] > pair["score_rejected"]


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize("wrong", [["--batch", "none"], ["--database", "sqlite:///none.db"]])
def test_an_export_that_fails_leaves_the_file_as_it_was(wrong: list[str], tmp_path: Path):
    file = tmp_path / "pairs.jsonl"
    file.write_text("paid for")
    assert runs("export", "--output", str(file), *wrong).exit_code != 0
    assert file.read_text() == "paid for"
    end = runs("export", "--output", "no/folder/pairs.jsonl")
    assert isinstance(end.exception, ConfigurationError)
    folder = repr(str(tmp_path / "no/folder"))
    assert str(end.exception).endswith(
        f"there is no folder {folder}. Make it, or name another file."
    )


@pytest.mark.usefixtures("stored")
@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="no /dev/fd here")
def test_an_export_goes_into_a_pipe_as_into_a_file():
    reading, writing = os.pipe()
    end = runs("export", "--output", f"/dev/fd/{writing}")
    os.close(writing)
    with open(reading, "rb") as pipe:
        assert (end.exit_code, len(pipe.read().splitlines())) == (0, 3)


@pytest.mark.usefixtures("stored")
def test_export_writes_runs_oldest_first():
    lines = [json.loads(line) for line in runs("export").stdout.splitlines()]
    assert [line["run"]["run_id"] for line in lines] == ["first", "second", "third"]
    assert len(lines[0]["candidates"]) == 4
    only = runs("export", "second", "--format", "preferences")
    assert (only.exit_code, only.stdout) == (0, "")


@pytest.mark.usefixtures("stored")
def test_prune_keeps_the_young_and_the_best():
    assert "0 runs pruned" in runs("prune", "--older-than", "1h").stderr
    assert "3 runs would be pruned" in runs("prune", "--older-than", "0h", "--dry-run").stderr
    assert "3 runs pruned" in runs("prune", "--older-than", "0h", "--keep-best").stderr
    kept = json.loads(runs("show", "first", "--json").stdout)
    assert [c["response"] for c in kept["candidates"]] == [SAMPLES[1]]
    assert kept["steps"] == []
    assert "0 runs pruned" in runs("prune", "--older-than", "0h", "--keep-best").stderr
    assert "3 runs pruned" in runs("prune", "--older-than", "0h").stderr
    assert runs("list", "--json").stdout == ""
    assert isinstance(runs("prune", "--older-than", "soon").exception, ConfigurationError)


@pytest.mark.usefixtures("stored")
def test_rescore_stores_other_rewards_beside_the_first(monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    def shorter(query: str, response: str) -> float:
        asked.append(response)
        return -float(len(response))

    monkeypatch.setattr(load, "load_reward_model", lambda name: FunctionReward(shorter, name=name))
    for _ in range(2):
        result = runs("rescore", "first", "--reward-model", "local:shorter")
        assert result.exit_code == 0, result.output
    assert sorted(asked) == sorted(SAMPLES)  # the second time all are known
    shown = json.loads(runs("show", "first", "--json").stdout)
    for candidate in shown["candidates"]:
        assert candidate["other_rewards"] == {"local:shorter": -candidate["reward"]}


@pytest.mark.usefixtures("stored")
def test_resume_prints_a_finished_run():
    result = runs("resume", "first")
    assert (result.exit_code, result.stdout) == (0, SAMPLES[1] + "\n")


def test_db_upgrade_and_current():
    db = [CliRunner().invoke(tpo, ["db", name]) for name in ("current", "upgrade", "current")]
    assert [result.stdout.strip() for result in db] == ["blank", "0004", "0004"]


@pytest.mark.usefixtures("stored")
def test_the_beginning_of_an_id_names_a_run():
    optimize(
        "Why?",
        model=ScriptedChatModel(replies=SAMPLES),
        reward_model=prefer_longer,
        database=DATABASE,
        run_id="first-again",
        depth=0,
    )
    assert runs("show", "th", "--json").stdout == runs("show", "third", "--json").stdout
    assert json.loads(runs("show", "first", "--json").stdout)["run"]["run_id"] == "first"
    assert runs("resume", "sec").stdout == "same\n"
    assert json.loads(runs("export", "first-").stdout)["run"]["run_id"] == "first-again"
    ambiguous = runs("show", "fi").exception
    assert isinstance(ambiguous, ConfigurationError)
    assert "'fi' is the beginning of several runs: first, first-again" in str(ambiguous)
    for unknown in ("fourth", "%", "FIRST", ""):
        assert isinstance(runs("show", unknown).exception, RunNotFoundError)


@pytest.mark.usefixtures("stored")
def test_resume_and_extend_audit_the_answer(monkeypatch: pytest.MonkeyPatch):
    shorter = FunctionReward(lambda query, response: -float(len(response)), name="local:shorter")
    monkeypatch.setattr(load, "load_reward_model", lambda name: shorter)
    audited = json.loads(runs("resume", "first", "--audit", "local:shorter", "--json").stdout)
    assert audited["audit"]["reward_model"] == "local:shorter"
    assert audited["audit"]["first"] == -len(SAMPLES[1])
    assert "audit by local:shorter" in runs("resume", "first", "--audit", "local:x").stderr


@pytest.mark.usefixtures("stored")
def test_samples_are_counted_from_one_as_in_the_report():
    shown = runs("show", "first", "--full").stdout
    assert "(iteration 0, sample 2)" in shown  # SAMPLES[1] is the longest
    assert "sample 0" not in shown


@pytest.mark.parametrize("command", [["runs", "list"], ["runs", "export"], ["db", "current"]])
def test_a_configured_database_is_the_one_that_is_read(command: list[str], tmp_path: Path):
    (tmp_path / "tpo.toml").write_text('database = "sqlite:///./elsewhere.db"\n')
    model, where = ScriptedChatModel(replies=SAMPLES), f"sqlite:///{tmp_path / 'elsewhere.db'}"
    optimize("Why?", model=model, reward_model=prefer_longer, database=where, depth=0, run_id="x")
    found = CliRunner().invoke(tpo, [*command, "--config", "tpo.toml"])
    assert found.exit_code == 0, found.output
    assert found.stdout.strip() not in ("", "blank")
    none = CliRunner().invoke(tpo, [*command, "--database", "none"])
    assert isinstance(none.exception, ConfigurationError)


@pytest.mark.parametrize("command", [["runs", "list"], ["runs", "export"], ["report"]])
def test_reading_makes_no_database(command: list[str], tmp_path: Path):
    found = CliRunner().invoke(tpo, [*command, "--database", "sqlite:///typo.db"])
    assert isinstance(found.exception, ConfigurationError)
    assert "sqlite:///typo.db" in str(found.exception)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("stored")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_an_output_on_a_full_disk_is_one_line():
    command = [sys.executable, "-c", "from tpo_graph.cli import main; main()", "runs", "list"]
    with Path("/dev/full").open("w") as full:
        end = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    said = "Error: the output cannot be written: No space left on device\n"
    assert (end.returncode, end.stderr) == (1, said)
