"""What reaches a terminal or a narrow encoding, and files as Windows writes them."""

import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from tpo_graph.batch.progress import BatchProgress
from tpo_graph.cli import evaluating, main, tpo
from tpo_graph.cli.display import Console, loading
from tpo_graph.cli.output import print_answer, print_json, say
from tpo_graph.cli.run import _query
from tpo_graph.errors import PolicyError
from tpo_graph.settings import Settings

HOSTILE = "a\x1b]0;title\x07 \x1b[2J\x9b2J\rb\n\tc"
VISIBLE = "a\\x1b]0;title\\x07 \\x1b[2J\\x9b2J\\x0db\n\tc\n"


@pytest.mark.parametrize(("terminal", "shown"), [(True, VISIBLE), (False, HOSTILE + "\n")])
def test_an_answer_cannot_steer_a_terminal(
    terminal: bool, shown: str, monkeypatch: pytest.MonkeyPatch
):
    out = io.StringIO(newline="")
    monkeypatch.setattr(out, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stdout", out)
    print_answer(HOSTILE)
    assert out.getvalue() == shown


def test_errors_warnings_and_json_cannot_either(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    @click.command()
    @click.argument("how")
    def fail(how: str) -> None:
        logging.getLogger("tpo_graph").warning("said %s", HOSTILE)
        say(HOSTILE)
        print_json({"said": HOSTILE})
        raise {"ours": PolicyError(HOSTILE), "click": click.UsageError(HOSTILE)}[how]

    monkeypatch.setitem(tpo.commands, "fail", fail)
    # As in a process of its own: no handler but Python's last resort.
    monkeypatch.setattr(logging.getLogger("tpo_graph"), "propagate", False)
    monkeypatch.setattr(logging, "lastResort", logging._StderrHandler())
    for how in ("ours", "click"):
        monkeypatch.setattr(sys, "argv", ["tpo", "fail", how])
        with pytest.raises(SystemExit):
            main()
        told = capsys.readouterr()
        assert json.loads(told.out) == {"said": HOSTILE}
        for each in ("\x1b", "\x9b", "\x07"):
            assert each not in told.out + told.err
        assert told.err.count(VISIBLE) == 3
        assert f"Error: {VISIBLE}" in told.err
        assert f"said {VISIBLE}" in told.err


def test_tables_and_texts_of_rich_cannot_either():
    out = io.StringIO()
    Console(file=out, force_terminal=True, width=200).print("[bold]x[/] " + HOSTILE)
    assert "\x1b[1m" in out.getvalue()  # its own styles stay
    for each in ("\x1b]", "\x1b[2J", "\x9b", "\x07"):
        assert each not in out.getvalue()


def test_an_answer_is_printed_whatever_the_encoding_lacks(monkeypatch: pytest.MonkeyPatch):
    @click.command()
    def answer() -> None:
        print_answer("caf\xe9 \U0001f600 \ud800")

    monkeypatch.setitem(tpo.commands, "answer", answer)
    monkeypatch.setattr(sys, "argv", ["tpo", "answer"])
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="latin-1"))
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    sys.stdout.flush()
    assert raw.getvalue() == b"caf\xe9 \\U0001f600 \\ud800\n"


def test_loading_models_is_said_for_local_ones_only(capsys: pytest.CaptureFixture[str]):
    assert loading("openai:gpt-4o", None, "judge:openai:gpt-4o") == ""
    assert capsys.readouterr().err == ""
    assert loading("openai:gpt-4o", "local:./reward") == "loading models, "


def test_a_comparison_tells_a_log_how_far_it_is_while_no_row_ends(
    monkeypatch: pytest.MonkeyPatch,
):
    out = io.StringIO()
    monkeypatch.setattr(evaluating, "console", Console(file=out, width=200))
    clock = iter([0.0, 3.0, 11.0, 12.0])
    monkeypatch.setattr(evaluating.time, "monotonic", lambda: next(clock))
    progress = evaluating.Progress()
    for _ in range(3):
        running = BatchProgress(total=4, done=1, failed=0, new=1, seconds=1.0, in_flight=3)
        progress.batch("trial/tpo/0", running)
    assert out.getvalue() == "tpo/0: 1 of 4 done, 3 running\n"


def test_files_may_begin_with_a_byte_order_mark(tmp_path: Path):
    config, query = tmp_path / "tpo.toml", tmp_path / "query.txt"
    config.write_bytes(b"\xef\xbb\xbfdepth = 3\r\n")
    query.write_bytes(b"\xef\xbb\xbfWhy?\r\n")
    assert Settings.load({}, config).depth == 3
    assert _query(None, query) == "Why?"


@pytest.mark.parametrize(
    ("module", "arguments"),
    [("tpo_graph.cli", ["benchmark", "list"]), ("benchmarks.real.__main__", ["prompts"])],
)
def test_output_that_nobody_reads_to_its_end_is_no_traceback(module: str, arguments: list[str]):
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [sys.executable, "-c", f"from {module} import main; main()", *arguments],
        stdout=writing,
        stderr=subprocess.PIPE,
        env={**os.environ, "TPO_TASKS": "requirements"},
        check=False,
    )
    os.close(writing)
    assert (ended.stderr, ended.returncode) == (b"", 1)
