"""Without a library of an extra, what needs it names the package, the extra and the command."""

import ast
import asyncio
import re
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement

from tpo_graph import TPOResult, optimize, runs_df
from tpo_graph.batch.ray_cluster import Cluster, connected
from tpo_graph.cli import tpo
from tpo_graph.errors import ConfigurationError
from tpo_graph.evaluation.benchmarks.arena_hard import ARENA_HARD
from tpo_graph.evaluation.benchmarks.math_500 import Grader
from tpo_graph.evaluation.benchmarks.outcomes import Answer
from tpo_graph.evaluation.statistics import estimate
from tpo_graph.extras import extra
from tpo_graph.local.encoder import Encoder
from tpo_graph.report.svg import chart
from tpo_graph.rewards.json_schema import JsonSchemaReward
from tpo_graph.testing import ScriptedChatModel, prefer_longer

ROOT = Path(__file__).parent.parent
FAKES = ["--model", "openai:fake", "--reward-model", "local:nowhere"]


def command(*arguments: str) -> Callable[[], object]:
    return lambda: CliRunner().invoke(tpo, arguments, standalone_mode=False, catch_exceptions=False)


def answered(database: str | None = None) -> TPOResult:
    model = ScriptedChatModel()
    return optimize("Hi?", model=model, reward_model=prefer_longer, depth=0, database=database)


async def join() -> None:
    async with connected(Cluster(), "sqlite:///tpo.db"):
        pass


LOCAL = command("run", "--model", "local:.", "--reward-model", "local:.", "Hi?")
"""Of an empty folder: libraries are missing before files are."""
POSTGRES = command("runs", "list", "--database", "postgresql://me@nowhere/tpo")
CASES: list[tuple[str, str, Callable[[], object]]] = [
    ("jinja2", "local", LOCAL),
    ("torch", "local", LOCAL),
    ("transformers", "local", LOCAL),
    ("transformers", "local", lambda: Encoder(".")),
    ("psycopg", "postgres", POSTGRES),
    ("Crypto", "encryption", lambda: answered("sqlite:///tpo.db")),
    ("datasets", "data", command("batch", "me/questions", "--output", "out.csv", *FAKES)),
    ("datasets", "data", command("benchmark", "prompts", "math-500", "-o", "out.jsonl")),
    ("pyarrow", "data", command("batch", "in.parquet", "--output", "out.csv", *FAKES)),
    ("pyarrow", "data", command("batch", "in.csv", "--output", "out.parquet", *FAKES)),
    ("pandas", "data", lambda: answered().to_frame()),
    ("pandas", "data", lambda: runs_df("sqlite:///tpo.db")),
    ("math_verify", "evaluate", Grader),
    ("scipy", "evaluate", command("compare", "in.csv", "-o", "out.json", *FAKES)),
    ("scipy", "evaluate", lambda: estimate([1.0, 2.0])),
    ("matplotlib", "report", lambda: chart(print, name="name", title="title", description="")),
    ("jsonschema", "json-schema", lambda: JsonSchemaReward({})),
    ("prometheus_client", "serve", command("serve", *FAKES)),
    ("sse_starlette", "serve", command("serve", *FAKES)),
    ("starlette", "serve", command("serve", *FAKES)),
    ("uvicorn", "serve", command("serve", *FAKES)),
    ("ray", "ray", lambda: asyncio.run(join())),
]
NAMES = {"Crypto": "pycryptodome", "langgraph.checkpoint.postgres": "langgraph-checkpoint-postgres"}


@pytest.fixture(autouse=True)
def _in_a_folder_with_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.csv").write_text("prompt\nHi?\n")
    Path("in.parquet").touch()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-fake")
    monkeypatch.setenv("LANGGRAPH_AES_KEY", "0123456789abcdef")


def hide(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [module, *(name for name in sys.modules if name.startswith(f"{module}."))]:
        monkeypatch.setitem(sys.modules, name, None)


def named(module: str, extra: str) -> str:
    package = re.escape(NAMES.get(module, module.replace("_", "-")))
    return rf"{package}, which is not installed.*: pip install 'tpo-graph\[{extra}\]'"


@pytest.mark.parametrize(("module", "extra", "action"), CASES)
def test_a_missing_library(
    module: str, extra: str, action: Callable[[], object], monkeypatch: pytest.MonkeyPatch
):
    hide(module, monkeypatch)
    with pytest.raises(ConfigurationError, match=named(module, extra)):
        action()


@pytest.mark.parametrize("module", ["psycopg_pool", "langgraph.checkpoint.postgres"])
def test_a_missing_library_that_postgres_needs_once_it_is_connected(
    module: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("LANGGRAPH_AES_KEY")
    hide(module, monkeypatch)
    with pytest.raises(ConfigurationError, match=named(module, "postgres")):
        answered(postgres_url)


def test_without_tiktoken_arena_hard_is_written_with_estimates(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    hide("tiktoken", monkeypatch)
    answer = Answer("a", "Hello there", None, {"uid": "a", "prompt": "Hi?"}, None)
    assert "token_len" in ARENA_HARD.writers[".jsonl"]([answer], "me")
    assert re.search(named("tiktoken", "evaluate"), caplog.text)


def test_a_broken_library_is_not_called_missing():
    cannot = r"a thing needs part, which cannot be imported \(no library of C\).*\[local\]'"
    with pytest.raises(ConfigurationError, match=cannot), extra("local", "a thing"):
        raise ImportError("no library of C", name="part.of")


class Imports(ast.NodeVisitor):
    """Top-level names of all modules that a program imports when it runs."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) != "TYPE_CHECKING":
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.found |= {alias.name.partition(".")[0] for alias in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.found.add((node.module or "").partition(".")[0])

    def visit_Call(self, node: ast.Call) -> None:
        if "import_module" in ast.unparse(node.func) and isinstance(node.args[0], ast.Constant):
            self.found.add(str(node.args[0].value).partition(".")[0])
        self.generic_visit(node)


def test_every_imported_library_of_an_extra_is_among_the_cases():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [
        Requirement(text).name.lower()
        for name, texts in project["optional-dependencies"].items()
        if name not in ("dev", "test-slow")
        for text in texts
    ]
    imports = Imports()
    for path in (ROOT / "tpo_graph").rglob("*.py"):
        imports.visit(ast.parse(path.read_text()))
    packages = packages_distributions()
    ours = {
        module
        for module in imports.found - {"langgraph", "tpo_graph"}
        if {name.lower() for name in packages.get(module, ())} & set(extras)
    }
    # Without tokenizers, transformers cannot be imported either.
    tried = {module for module, _, _ in CASES} | {"psycopg_pool", "tiktoken", "tokenizers"}
    # Without it nothing is traced, and nothing is wrong.
    tried.add("opentelemetry")
    assert ours <= tried
    assert {"torch", "ray", "tiktoken"} <= ours
