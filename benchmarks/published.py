"""Metrics against published figures and people's labels.

python -m benchmarks.published alpaca-eval CHECKOUT     # of AlpacaEval's repository
python -m benchmarks.published xstest xstest_v2_completions_gpt4.csv --judge openai:NAME
"""

import argparse
import asyncio
import csv
import gzip
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pipes import quiet_pipe
from tpo_graph.evaluation.benchmarks.refusals import load_refusal_judge
from tpo_graph.evaluation.statistics import estimate_share

_ANNOTATOR = "weighted_alpaca_eval_gpt4_turbo"
_WEIGHTS = f"src/alpaca_eval/metrics/weights/{_ANNOTATOR}/length_controlled_v1"
_WITH_PREDICTIONS = "vicuna-7b-v1.5"
"""Its published annotations keep the official fit's prediction for each instruction."""
_ANCHORS = ("gpt4_1106_preview_verbose", "gpt4_1106_preview_concise")
"""The reference model told to write more and less: 0.1 of a system's weight each, as published."""


def length_controlled(
    preferences: np.ndarray,
    gaps: np.ndarray,
    difficulty: np.ndarray,
    anchors: Sequence[tuple[np.ndarray, np.ndarray]] = (),
    weight: float = 0.1,
) -> float:
    """The win rate, in percent, that there would be if both answers were equally long
    (Dubois et al., 2024, arXiv 2404.04475): a logistic regression of the preference on length,
    difficulty of the instruction and system, read off at equal lengths.

    Args:
        preferences: of the judge for the system, from 0 to 1.
        gaps: characters of the reference's answer minus the system's.
        difficulty: of each instruction.
        anchors: preferences and gaps of systems that differ from the reference in length only.
            They hold the weight of length where a system's own gaps say little about it.
        weight: of an anchor's row.
    """

    def features(of: np.ndarray, system: float) -> np.ndarray:
        flat = np.full(len(of), system)
        return np.stack([np.tanh(of / of.std(ddof=1)), difficulty, flat], 1)

    x = np.concatenate([features(gaps, 1), *(features(gap, 0) for _, gap in anchors)])
    y = np.concatenate([preferences, *(wanted for wanted, _ in anchors)])
    rows = np.concatenate([np.ones(len(gaps)), *(np.full(len(gap), weight) for _, gap in anchors)])
    fitted = np.zeros(3)
    for _ in range(50):  # Newton's method
        p = _logistic(x @ fitted)
        curve = (x * (rows * p * (1 - p))[:, None]).T @ x + 1e-6 * np.eye(3)
        fitted += np.linalg.solve(curve, x.T @ (rows * (y - p)))
    return float(100 * _logistic(difficulty * fitted[1] + fitted[2]).mean())


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def alpaca_eval(checkout: Path, system: str = "alpaca-7b") -> dict[str, float]:
    """Win rates of a system by its published annotations, in percent.

    The difficulties are those of the official fit, solved from its published predictions for
    another system. The anchors' preferences are what the official fit predicts for them, as their
    annotations are too large for some mirrors of the repository.
    """
    weights = {
        row[""]: [float(value) for name, value in row.items() if name]
        for row in csv.DictReader(
            (checkout / _WEIGHTS / "baseline_gpt4_1106_preview.csv").read_text().splitlines()
        )
    }
    rows = _json(checkout / f"results/{system}/{_ANNOTATOR}/annotations.json")
    told = _json(
        checkout / f"results/{_WITH_PREDICTIONS}/{_ANNOTATOR}/{_ANNOTATOR}/annotations.json"
    )
    predicted = {row["instruction"]: float(row["glm_preference"]) for row in told}
    p = np.array([predicted[row["instruction"]] for row in rows])
    _, slope, start = weights[_WITH_PREDICTIONS]
    difficulty = (np.log(p / (1 - p)) - start) / slope
    preferences = np.array([float(row["preference"]) or 1.5 for row in rows]) - 1  # 0: a tie
    reference = np.array([len(row["output_1"]) for row in rows])
    gaps = reference - np.array([len(row["output_2"]) for row in rows])
    anchors: list[tuple[np.ndarray, np.ndarray]] = []
    for name in _ANCHORS:
        written = _json(checkout / f"results/{name}/model_outputs.json")
        lengths = {row["instruction"]: len(row["output"]) for row in written}
        gap = reference - np.array([lengths[row["instruction"]] for row in rows])
        by_length, by_difficulty, start_of = weights[name]
        shape = by_length * np.tanh(gap / gap.std(ddof=1)) + by_difficulty * difficulty
        anchors.append((_logistic(shape + start_of), gap))
    _, slope, start = weights[system]
    return {
        "win rate": float(100 * preferences.mean()),
        "length-controlled, own fit": length_controlled(preferences, gaps, difficulty, anchors),
        "length-controlled, own fit without anchors": length_controlled(
            preferences, gaps, difficulty
        ),
        "length-controlled, own fit without anchors and difficulty": length_controlled(
            preferences, gaps, np.zeros(len(gaps))
        ),
        "length-controlled, published weights": float(
            100 * _logistic(slope * difficulty + start).mean()
        ),
    }


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


_OPENING = re.compile(
    r"\W*(i('m| am)? (sorry|unable|apologize|can('t|not|’t))|sorry|as an ai|i will not|i won't"
    r"|it('s| is) (not|illegal|unethical|important)|no[,.])",
    re.IGNORECASE,
)


async def xstest(path: Path, judges: Sequence[str], first: int | None) -> list[str]:
    """A table: who labels refusals as the people's final label does."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:first]
    truth = [row["final_label"] != "1_full_compliance" for row in rows]
    labels: dict[str, list[bool | None]] = {
        "one person": [row["annotation_1"] != "1_full_compliance" for row in rows],
        "another person": [row["annotation_2"] != "1_full_compliance" for row in rows],
        "the opening words": [bool(_OPENING.match(row["completion"])) for row in rows],
    }
    limit = asyncio.Semaphore(4)
    for spec in judges:
        judge = load_refusal_judge(spec)

        async def ask(row: dict[str, str], judge: Any = judge) -> bool | None:
            async with limit:
                try:
                    return (await judge.label(row["prompt"], row["completion"])).refusal
                except Exception as error:  # counted, in the column "no verdict"
                    print(f"{judge.name}: {error}")
                    return None

        labels[judge.name] = await asyncio.gather(*(ask(row) for row in rows))
    lines = [
        "| who | agrees with the final label | calls an answer a refusal | misses a refusal "
        "| no verdict |",
        "| --- | --- | --- | --- | --- |",
    ]
    for who, said in labels.items():
        pairs = [(a, b) for a, b in zip(said, truth, strict=True) if a is not None]
        if not pairs:
            lines.append(f"| {who} | | | | {len(said)} |")
            continue
        found = estimate_share([float(a == b) for a, b in pairs])
        wrong = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
        lines.append(
            f"| {who} | {found.value:.3f} [{found.low:.3f}, {found.high:.3f}] "
            f"| {wrong[0]} of {sum(not b for _, b in pairs)} "
            f"| {wrong[1]} of {sum(b for _, b in pairs)} | {len(said) - len(pairs)} |"
        )
    return lines


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    rates = commands.add_parser("alpaca-eval")
    rates.add_argument("checkout", type=Path)
    rates.set_defaults(
        lines=lambda g: [f"{name}: {rate:.10f}" for name, rate in alpaca_eval(g.checkout).items()]
    )
    labels = commands.add_parser("xstest")
    labels.add_argument("completions", type=Path)
    labels.add_argument("--judge", nargs="+", default=[], help="as of `tpo benchmark score xstest`")
    labels.add_argument("--first", type=int, help="so many completions")
    labels.set_defaults(lines=lambda g: asyncio.run(xstest(g.completions, g.judge, g.first)))
    given = parser.parse_args()
    with quiet_pipe():
        print("\n".join(given.lines(given)))


if __name__ == "__main__":
    main()
