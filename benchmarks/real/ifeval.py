"""IFEval (Zhou et al., 2023, arXiv 2311.07911): requests with instructions that programs check.

The reward is the share of the first half of a request's instructions that hold, with the others of
that half as its reason; the score is the share of all of them. Requests with one instruction have
nothing to hide from the method and are left out. The checkers are those of the package
`if-verifiable` (Apache-2.0), the strict ones.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.real.tasks import Task
from tpo_graph.rewards import Score

Check = tuple[str, Callable[[str], bool]]
"""What is asked for, and whether a text does it."""


def load(path: Path) -> list[Task]:
    """The requests with two or more instructions, from IFEval's `input_data.jsonl`.

    A request is left out when a checker needs data of NLTK's that is not installed, or draws at
    random what it checks: `keywords:letter_frequency` does for a sign that is no letter.

    Raises:
        FileNotFoundError: there is no such file.
        SystemExit: `if-verifiable` is not installed.
    """
    try:
        from if_verifiable.ifeval import (  # pyright: ignore[reportMissingImports]
            INSTRUCTION_DICT,  # pyright: ignore[reportUnknownVariableType]
        )
    except ImportError as e:
        raise SystemExit(f"ifeval needs the checkers: pip install if-verifiable ({e})") from None
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    found = [_task(row, INSTRUCTION_DICT) for row in rows if len(row["instruction_id_list"]) > 1]  # pyright: ignore[reportUnknownArgumentType]
    return [task for task in found if task is not None]


def _task(row: dict[str, Any], registry: dict[str, Any]) -> Task | None:
    checks: list[Check] = []
    for name, given in zip(row["instruction_id_list"], row["kwargs"], strict=True):
        known = {k: v for k, v in given.items() if v is not None}
        checker = registry[name](name)
        told = checker.build_description(**known)
        if _drawn(registry[name](name), known):
            return None
        checks.append((told, checker.check_following))
        try:
            checker.check_following("Two sentences. And a half")
        except LookupError:
            return None  # NLTK without its data
        except Exception:
            pass
    seen = checks[: (len(checks) + 1) // 2]

    def reward(answer: str) -> Score:
        unmet = [told for told, check in seen if not _holds(check, answer)]
        reason = f"Not met: {' '.join(unmet)}" if unmet else ""
        return Score(1 - len(unmet) / len(seen), reason)

    def score(answer: str) -> float:
        return sum(_holds(check, answer) for _, check in checks) / len(checks)

    return Task(f"ifeval/{row['key']}", row["prompt"], reward, score)


def _drawn(checker: Any, known: dict[str, Any]) -> bool:
    """Whether a checker fills in at random what the request does not give it."""
    before = random.getstate()
    told: set[str] = set()
    for seed in range(5):
        random.seed(seed)
        told.add(checker.build_description(**known))
    random.setstate(before)
    return len(told) > 1


def _holds(check: Callable[[str], bool], answer: str) -> bool:
    """Strict checking; a checker that fails on a text (langdetect on digits) says no."""
    try:
        return bool(answer.strip()) and bool(check(answer))
    except Exception:
        return False
