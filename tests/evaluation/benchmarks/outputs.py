"""Prompts of the fixtures, and output files as `tpo batch` writes them."""

import json
from pathlib import Path
from typing import Any

from tpo_graph.evaluation.benchmarks import load_prompts

FIXTURES = Path(__file__).parents[3] / "examples" / "paper" / "fixtures"
FILES = {path.stem: path for path in FIXTURES.iterdir()}

USAGE = {
    stage: {
        "requests": 1,
        "prompt_tokens": 10,
        "cached_tokens": 0,
        "completion_tokens": 5,
        "unusable": 0,
        "truncated": 0,
        "score_cache_hits": 0,
        "seconds": 0.1,
    }
    for stage in ("sample", "reward_score")
}


def output(path: Path, name: str, responses: dict[str, str | None], **rewards: float) -> Path:
    """A file with a row per prompt of the fixture: answered, failed where there is no response
    given, unfinished where it is None."""
    lines: list[str] = []
    for row in load_prompts(name, file=FILES[name]).rows:
        done: dict[str, Any] = {"response": None, "reward": None, "usage": None, "error": None}
        response = responses.get(row["id"], "")
        if response == "":
            done["error"] = "PolicyError: the server is gone"
        elif response is not None:
            reward = rewards.get(row["id"], 1.0)
            done |= {"response": response, "reward": reward, "usage": USAGE, "iteration": 1}
        lines.append(json.dumps({**row, **done}) + "\n")
    path.write_text("".join(lines), encoding="utf-8")
    return path


def answered(path: Path, name: str, response: str = "An answer.") -> Path:
    """The same with one response to every prompt."""
    rows = load_prompts(name, file=FILES[name]).rows
    return output(path, name, {row["id"]: response for row in rows})
