"""What the package exports, and what importing it costs."""

import ast
import subprocess
import sys
from importlib.metadata import version

import tpo_graph


def test_exported_names():
    assert sorted(tpo_graph.__all__) == [
        "Candidate",
        "ChatTPO",
        "Score",
        "Store",
        "TPOContext",
        "TPOMiddleware",
        "TPOResult",
        "aextend",
        "aoptimize",
        "aoptimize_many",
        "arescore",
        "aresume",
        "arun_batch",
        "awrite_output",
        "awrite_report",
        "candidates_df",
        "create_tpo_graph",
        "extend",
        "load_reward_model",
        "make_rows",
        "open_store",
        "optimize",
        "optimize_many",
        "read_rows",
        "rescore",
        "resume",
        "run_batch",
        "runs_df",
        "steps_df",
        "tpo_node",
        "usage_df",
        "write_output",
        "write_report",
    ]
    for name in tpo_graph.__all__:
        assert getattr(tpo_graph, name) is not None


def test_a_shell_completes_public_names_and_nothing_else():
    assert set(dir(tpo_graph)) == {*tpo_graph.__all__, "__version__"}
    assert tpo_graph.__version__ == version("tpo-graph")


def imported(code: str, *modules: str) -> list[str]:
    """Which of the modules a new process has imported after that code."""
    code += f"; import sys; print([one for one in {modules} if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return ast.literal_eval(done.stdout)


def test_importing_the_graph_does_not_import_torch_or_transformers():
    heavy = ("torch", "transformers", "ray", "matplotlib", "scipy")
    assert imported("from tpo_graph import create_tpo_graph, optimize", *heavy) == []


def test_the_command_s_help_waits_for_no_library_that_models_and_databases_need():
    heavy = ("langchain_core", "langgraph", "openai", "sqlalchemy", "jinja2", "aiohttp")
    assert imported("import tpo_graph.cli", *heavy, "click") == ["click"]
