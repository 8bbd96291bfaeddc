"""Dockerfile and compose.yaml: linted, and what they run and set is what the documentation says.

No image is built here: that takes a Docker daemon and a network.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from tpo_graph.cli import tpo
from tpo_graph.serve.options import ServeOptions
from tpo_graph.settings import Settings

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCS = (ROOT / "docs" / "serve.md").read_text()
OF_OTHERS = {"OPENAI_API_KEY", "OPENAI_BASE_URL", "HF_HOME"}


def known_variables() -> set[str]:
    own = {f"TPO_{name.upper()}" for name in Settings.model_fields}
    return own | {f"TPO_SERVE_{name.upper()}" for name in ServeOptions.model_fields} | OF_OTHERS


@pytest.mark.parametrize(
    "command",
    [
        ["hadolint", "Dockerfile"],
        ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"],
    ],
    ids=lambda command: command[0],
)
def test_linted(command: list[str]):
    tool = Path(sys.executable).parent / command[0]
    done = subprocess.run(
        [tool, *command[1:]], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["serve", "batch"])
def test_what_a_container_runs_is_a_command(name: str):
    entry, default = (
        json.loads(line.partition(" ")[2])
        for line in DOCKERFILE.splitlines()
        if line.startswith(("ENTRYPOINT", "CMD"))
    )
    assert entry == ["tpo"]
    command, *arguments = SERVICES[name].get("command", default)
    whole = click.Context(tpo, **tpo.context_settings)  # for the names of the help option
    assert tpo.commands[command].make_context(
        command, [*arguments], parent=whole
    )  # parsed, not run
    assert f"tpo {command}" in DOCS


def test_variables_are_those_that_tpo_reads():
    set_there = set(re.findall(r"\b(TPO_\w+)=", DOCKERFILE))
    for name in ("serve", "batch"):
        set_there |= set(SERVICES[name]["environment"])
    assert {"TPO_SERVE_HOST", "TPO_DATABASE_URL", "TPO_SERVE_API_KEY"} <= set_there
    assert set_there <= known_variables()


def test_nothing_comes_with_a_key_or_listens_beyond_this_machine():
    assert "TPO_SERVE_API_KEY=" not in DOCKERFILE
    for password in ("TPO_SERVE_API_KEY", "POSTGRES_PASSWORD"):
        assert re.search(rf"\$\{{{password}:\?", (ROOT / "compose.yaml").read_text())
    assert [name for name in SERVICES if "ports" in SERVICES[name]] == ["serve"]
    port = ServeOptions().port
    assert SERVICES["serve"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f"EXPOSE {port}" in DOCKERFILE
    assert re.search(rf"127\.0\.0\.1:{port}/ready", DOCKERFILE)
    drain = ServeOptions().drain
    assert int(SERVICES["serve"]["stop_grace_period"].removesuffix("s")) > drain + 10


def test_torch_comes_without_cuda_and_everything_from_the_lock():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    wanted = re.search(r"^ARG EXTRAS=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert wanted
    assert set(wanted[1].split(",")) <= set(extras)
    assert re.search(r"^ARG TORCH_INDEX=\S+/cpu$", DOCKERFILE, re.MULTILINE)
    installs = [part.partition("&&")[0] for part in DOCKERFILE.split("-m pip install")[1:]]
    assert all("--constraint requirements/lock.txt" in install for install in installs)
    of_torch = next(at for at, part in enumerate(installs) if "torch" in part)
    assert '--index-url "$TORCH_INDEX" torch' in installs[of_torch]
    assert ".[$EXTRAS]" in installs[-1]
    assert of_torch < len(installs) - 1  # so that the last one finds it there
    ignored = (ROOT / ".dockerignore").read_text()
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        assert all(f"!{each}\n" in ignored for each in source.split())


@pytest.mark.parametrize("command", ["docker build", "docker compose up", "docker compose run"])
def test_commands_are_documented(command: str):
    assert command in DOCS
