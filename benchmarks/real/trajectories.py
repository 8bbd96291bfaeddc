"""Runs of `methods` as a person reads them, with the numbers that say how well they went.

The rule of choice is the order of the tasks: nobody picks the good ones.
"""

import re
from collections.abc import Sequence
from statistics import fmean

from benchmarks.real.methods import WIDTH
from benchmarks.real.rewrites import Record

_QUOTED = re.compile(r"[\"\u201c\u00ab]([^\"\u201c\u201d\u00ab\u00bb\n]{3,80})[\"\u201d\u00bb]")


def trajectories(records: Sequence[Record], arm: str, first: int) -> str:
    """Markdown: the first so many runs of an arm that had room, and what they have in common."""
    drawn = {r["task"]: r for r in records if r["arm"] == "samples"}
    runs = [r for r in records if r["arm"] == arm and r["steps"]]
    runs.sort(key=lambda r: int(r["task"].rpartition("/")[2]))
    runs = runs[:first]
    told = [_one(r, drawn[r["task"]]) for r in runs]
    return "\n\n".join([_summary(runs, drawn), *told])


def _summary(runs: Sequence[Record], drawn: dict[str, Record]) -> str:
    followed: list[bool] = []
    longer: list[int] = []
    written = unusable = 0
    for run in runs:
        unusable += run["unusable"]
        for chosen, gradient, texts in _iterations(run, drawn[run["task"]]):
            written += len(texts)
            longer += [len(text) - len(chosen) for text in texts if text.strip() != chosen.strip()]
            new = [words for words in _QUOTED.findall(gradient) if words not in chosen]
            followed += [words in text for words in new for text in texts]
    lines = [
        f"- {len(runs)} runs; {written} rewrites, {unusable} unusable replies.",
        f"- Words that a gradient quoted and the chosen answer did not have: {len(followed)}; "
        f"they stand in {fmean(followed or [0]):.0%} of the rewrites.",
        f"- Of the rewrites that are no copies {fmean(d > 0 for d in longer or [0]):.0%} are "
        f"longer than the answer they started from, {fmean(d < 0 for d in longer or [0]):.0%} "
        "shorter.",
    ]
    return "\n".join(lines)


def _iterations(run: Record, drawn: Record) -> list[tuple[str, str, list[str]]]:
    """(chosen, gradient, rewrites) of each iteration."""
    seen = list(zip(drawn["rewards"][:WIDTH], drawn["texts"][:WIDTH], strict=True))
    found: list[tuple[str, str, list[str]]] = []
    gradient, pending = "", list[str]()
    for step in run["steps"]:
        if step["node"] == "gradient":
            gradient = step["gradient"]
        elif step["node"] == "update":
            pending = step["samples"]
            found.append((max(seen, key=lambda pair: pair[0])[1], gradient, pending))
        elif step["node"] == "reward_score" and found:
            seen += list(zip(step["rewards"], step["samples"], strict=True))
    return found


def _one(run: Record, drawn: Record) -> str:
    best = max(drawn["rewards"][:WIDTH])
    parts = [
        f"## {run['task']}: reward {best:.2f} to {run['reward']:.2f}, score of the answer "
        f"{run['score']:.2f}",
        _quote(drawn["request"]),
        f"Rewards of the first samples: {_numbers(drawn['rewards'][:WIDTH])}. The best of them:",
        _quote(drawn["texts"][drawn["rewards"].index(best)]),
    ]
    for step in run["steps"]:
        if step["node"] == "loss":
            parts += ["**Loss**", _quote(step["loss"])]
        elif step["node"] == "gradient":
            parts += ["**Gradient**", _quote(step["gradient"])]
        elif step["node"] == "reward_score" and "samples" in step and len(parts) > 4:
            parts.append(f"**Rewrites** ({_numbers(step['rewards'])}), the best:")
            if step["samples"]:
                top = step["rewards"].index(max(step["rewards"]))
                parts.append(_quote(step["samples"][top]))
    came = "a first sample" if run["answer_iteration"] == 0 else f"step {run['answer_iteration']}"
    parts.append(f"The answer comes from {came}; stop reason `{run['stop_reason']}`.")
    return "\n\n".join(parts)


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def _quote(text: str) -> str:
    return "\n".join(f"> {line}" if line else ">" for line in text.strip().splitlines())
