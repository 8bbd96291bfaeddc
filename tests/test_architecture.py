"""The picture in docs/architecture.md is the contract, and the files it names are there."""

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
LONGER = {"graph.py: create_tpo_graph", "cli/batch.py: batch"}
"""Most of their lines say what the caller's arguments and options are."""
WIDER = LONGER | {"agents/middleware.py: TPOMiddleware.__init__"}
"""Their arguments are what the caller can set, each by name."""
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_picture_is_the_layers_contract():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = (c for c in project["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    assert contract["exhaustive"]
    floors = [re.split(r"\s*:\s*", layer.strip()) for layer in contract["layers"]]
    picture = re.search(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert picture is not None
    assert [line.split(" · ") for line in picture[1].splitlines()] == floors
    assert len(floors) <= 9


def test_every_file_that_the_page_names_is_there():
    names = re.findall(r"`([\w/*]+(?:\.py|/))`", PAGE)
    assert len(names) > 20
    for name in names:
        assert [*ROOT.glob(f"tpo_graph/{name}"), *ROOT.glob(name)], name


def functions(node: ast.AST, place: str):
    """Every function beneath the node, by where it is."""
    for child in ast.iter_child_nodes(node):
        named = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        name = f"{place}{child.name}" if named else place
        if named and not isinstance(child, ast.ClassDef):
            yield name, child
        yield from functions(child, f"{name}." if named else name)


def test_no_function_is_long_or_takes_more_than_eight_arguments():
    longer, wider = set[str](), set[str]()
    for file in (ROOT / "tpo_graph").rglob("*.py"):
        place = f"{file.relative_to(ROOT / 'tpo_graph').as_posix()}: "
        for name, function in functions(ast.parse(file.read_text(encoding="utf-8")), place):
            given = function.args
            own = [*given.posonlyargs, *given.args, *given.kwonlyargs]
            if function.end_lineno - function.lineno >= 59:
                longer.add(name)
            if len([each for each in own if each.arg not in {"self", "cls"}]) > 8:
                wider.add(name)
    assert (longer, wider) == (LONGER, WIDER)
