"""docs/cli.md shows the help of every command, word for word.

To regenerate it: `TPO_WRITE_DOCS=1 .venv/bin/python -m pytest tests/cli/test_help.py`.
"""

import os
import re
from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tpo_graph.cli import tpo
from tpo_graph.context import RunOptions

DOCS = Path(__file__).parent.parent.parent / "docs" / "cli.md"
BLOCKS = re.compile(r"\n## `tpo.*", re.DOTALL)


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def helps() -> str:
    parts: list[str] = []
    for path in [(), *commands(tpo)]:
        result = CliRunner().invoke(
            tpo, [*path, "--help"], prog_name="tpo", terminal_width=88, max_content_width=88
        )
        parts.append(f"\n## `{' '.join(('tpo', *path))}`\n\n```text\n{result.output}```\n")
    return "".join(parts)


def test_the_docs_show_every_command():
    docs = DOCS.read_text(encoding="utf-8")
    expected = BLOCKS.sub("", docs) + helps()
    if os.environ.get("TPO_WRITE_DOCS"):
        DOCS.write_text(expected, encoding="utf-8")
    elif docs != expected:
        changes = "".join(unified_diff(docs.splitlines(True), expected.splitlines(True), n=0))
        pytest.fail(f"docs/cli.md is not what the commands say.{__doc__}\n{changes}")


@pytest.mark.parametrize(
    "command", [["run"], ["batch"], ["compare"], ["analyze", "grid"], ["serve"]]
)
def test_the_settings_of_a_run_stand_in_sections(command: list[str]):
    told = CliRunner().invoke(tpo, [*command, "--help"]).output
    sections = re.split(r"^(\w[\w ]*):\n", told, flags=re.MULTILINE)
    titles, texts = sections[1::2], sections[2::2]
    assert titles == ["Options", "Models", "Search", "Sampling", "Early stopping", "Storage"]
    own = set(re.findall(r"^  --([\w-]+)", texts[0], flags=re.MULTILINE))
    assert not {name.replace("_", "-") for name in RunOptions.model_fields} & own
    assert "--max-cost" in texts[4]
