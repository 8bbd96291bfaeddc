"""Benchmarks, the paper's and users': prompts for `tpo batch`, files for other tools, metrics.

`benchmark(NAME)` finds one; `load_prompts` makes rows of its data set; `read_outcomes` reads what
`tpo batch` made of them; `export` and `score` take that.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tpo_graph.errors import ConfigurationError
from tpo_graph.evaluation.benchmarks.alpaca_eval import ALPACA_EVAL
from tpo_graph.evaluation.benchmarks.arena_hard import ARENA_HARD
from tpo_graph.evaluation.benchmarks.base import Benchmark, Scoring, UnusableRecordError
from tpo_graph.evaluation.benchmarks.beavertails import BEAVERTAILS
from tpo_graph.evaluation.benchmarks.hh_rlhf import HH_RLHF
from tpo_graph.evaluation.benchmarks.judged import read_other_answers
from tpo_graph.evaluation.benchmarks.math_500 import MATH_500
from tpo_graph.evaluation.benchmarks.outcomes import Answer, Outcomes, read_outcomes
from tpo_graph.evaluation.benchmarks.own import installed, own_benchmark
from tpo_graph.evaluation.benchmarks.score import Part, Score
from tpo_graph.evaluation.benchmarks.source import read_file, read_hub
from tpo_graph.evaluation.benchmarks.xstest import XSTEST

__all__ = [
    "BENCHMARKS",
    "Answer",
    "Benchmark",
    "Outcomes",
    "Part",
    "Prompts",
    "Score",
    "Scoring",
    "benchmark",
    "export",
    "installed",
    "load_prompts",
    "own_benchmark",
    "read_other_answers",
    "read_outcomes",
    "score",
]

BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType(
    {
        known.name: known
        for known in (ALPACA_EVAL, ARENA_HARD, HH_RLHF, BEAVERTAILS, XSTEST, MATH_500)
    }
)
"""In the order of the paper's table 1."""

SEED = 7
"""The seed of the published code, for what is drawn at random unless another is given."""


def benchmark(name: str) -> Benchmark:
    """The benchmark of that name: one of the paper's, of an installed package, or a TOML file.

    Raises:
        ConfigurationError: there is none, or it cannot be loaded.
    """
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    if name.endswith(".toml"):
        return own_benchmark(Path(name))
    known = {**BENCHMARKS, **installed()}
    if name not in known:
        raise ConfigurationError(
            f"no benchmark {name!r}: known are {', '.join(known)}; or give the TOML file of one "
            "of your own"
        )
    return known[name]


@dataclass(frozen=True)
class Prompts:
    """Rows for `tpo batch` (`tpo_graph.rows.make_rows` takes them too)."""

    rows: list[dict[str, Any]]
    skipped: dict[int, str]
    """Position in the data set -> why no row could be made of that record."""
    available: int
    """Records that a row could be made of."""


def load_prompts(
    name: str, *, file: Path | None = None, limit: int | None = None, seed: int | None = None
) -> Prompts:
    """The prompts of a benchmark, each with the columns that its export and metric need.

    Args:
        name: the benchmark's.
        file: a local copy of the data set; None loads it from the hub.
        limit: maximum number of prompts.
        seed: draws them at random; None takes the first ones, except where the paper drew (then
            it means 7).

    Raises:
        ConfigurationError: no such benchmark, or its data cannot be read.
    """
    chosen = benchmark(name)
    source = chosen.source
    file = file or chosen.data
    if file is None:
        records = read_hub(source.dataset, source.split, source.file)
    else:
        records = read_file(file)
    rows: list[dict[str, Any]] = []
    skipped: dict[int, str] = {}
    for position, record in enumerate(records):
        try:
            rows.append(chosen.make_row(record, position))
        except UnusableRecordError as error:
            skipped[position] = str(error)
    if not rows:
        position, why = next(iter(skipped.items()))
        raise ConfigurationError(
            f"no record of {str(file or source.dataset)!r} is one of {name}; record {position}, "
            f"for one: {why}"
        )
    available = len(rows)
    size = chosen.size if limit is None and chosen.drawn else limit
    wanted = min(size or available, available)
    if seed is not None or chosen.drawn:
        drawn = random.Random(SEED if seed is None else seed).sample(range(available), wanted)
        rows = [rows[index] for index in sorted(drawn)]
    return Prompts(rows[:wanted], skipped, available)


def export(name: str, outcomes: Outcomes, path: Path, generator: str) -> None:
    """Write the answers as the official tool reads them. What was not answered is not in the file.

    Args:
        path: its extension chooses among the formats of the benchmark.
        generator: what the tool is to call the system that wrote the answers.

    Raises:
        ConfigurationError: the extension or the name does not fit, or the rows are of another
            benchmark.
    """
    chosen = benchmark(name)
    if path.suffix not in chosen.writers:
        raise ConfigurationError(
            f"{name} is written to {' or '.join(chosen.writers)}, not to {path.name!r}"
        )
    if chosen.file_named_after_generator and path.stem != generator:
        raise ConfigurationError(
            f"{chosen.tool} takes the model's name from the file's: write to "
            f"{str(path.with_name(generator + path.suffix))!r}, or give --generator {path.stem}"
        )
    content = chosen.writers[path.suffix](outcomes.answers, generator)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode("utf-8", "replace"))


def score(name: str, outcomes: Outcomes, scoring: Scoring | None = None) -> Score:
    """The benchmark's metric over the answers, with all that could not be scored.

    Raises:
        ConfigurationError: the metric needs something that `scoring` lacks, or the rows are of
            another benchmark.
        RewardError: the judge or the reward model failed for every row.
    """
    return benchmark(name).score(outcomes, scoring or Scoring())
