"""docs/compare.md: its Python runs, its commands exist, and its links lead somewhere."""

import re
import shlex
from pathlib import Path

import click
import pytest

from tpo_graph.cli import tpo

DOCS = Path(__file__).parent.parent.parent / "docs"
TEXT = (DOCS / "compare.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)
COMMANDS = re.findall(r"^tpo (.*)$", TEXT, flags=re.MULTILINE)


def test_snippets_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    for snippet in SNIPPETS:
        exec(compile(snippet, "compare.md", "exec"), {})  # noqa: S102
    assert capsys.readouterr().out.startswith("tpo best-of-33 ")


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_exist_with_these_options(line: str):
    command: click.Command = tpo
    arguments = shlex.split(line)
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), arguments.pop(0))
        assert found is not None
        command = found
    command.make_context(command.name, arguments, parent=click.Context(tpo, **tpo.context_settings))


def test_the_options_it_names_exist():
    command = tpo.get_command(click.Context(tpo), "compare")
    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts}
    assert set(re.findall(r"`(--[a-z-]+)", TEXT)) <= known | {"--widths", "--sizes", "--baseline"}
