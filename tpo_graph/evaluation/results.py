"""What a comparison or an analysis found: plain values, and `comparison.json` that keeps them.

`compare.py` and the analyses make them from stored batches; the command line prints them, and the
report draws them. Texts stay in the database: `Answer.run_id` says where.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import TypeAdapter, ValidationError

from tpo_graph.errors import ConfigurationError
from tpo_graph.files.replaced import replaced

FORMAT = 1
"""Version of the file; a reader refuses a newer one."""
FILE = "comparison.json"
"""Name of the file in the folder that `tpo compare` and `tpo analyze` are given."""

Kind = Literal["compare", "curves", "stability", "grid", "best-of-n"]
Budget = Literal["samples", "tokens", "flops"]
Scorer = Literal["reward", "audit", "judge"]


@dataclass(frozen=True)
class Estimate:
    """A mean over prompts with its 95% interval (`evaluation.statistics`)."""

    value: float
    low: float | None
    """None where no interval can be told: fewer than two prompts, or all values equal."""
    high: float | None


@dataclass(frozen=True)
class Answer:
    """The answer that one method gave to one prompt under one seed, in numbers."""

    row_id: str
    seed: int
    run_id: str
    reward: float
    first: float
    """Reward of the best first sample, among as many as all methods of the comparison share."""
    length: int
    """Characters."""
    tokens: int
    """Prompt and completion tokens of the whole run, the reward model's left out."""
    audit: float | None = None
    """The held-out reward model's score."""


@dataclass(frozen=True)
class Seed:
    """One method under one seed: one batch."""

    seed: int
    batch: str
    finished: int
    failed: int
    reward: float | None
    """Mean over the finished prompts; None when there is none."""
    gain: float | None
    length: float | None
    tokens: float | None


@dataclass(frozen=True)
class Cost:
    """What one finished run cost on average."""

    samples: float
    """Responses drawn and scored."""
    requests: float
    prompt_tokens: float
    completion_tokens: float
    pflops: float
    """PFLOPs by the paper's accounting: token limits, and a 70B policy."""
    measured_pflops: float | None
    """PFLOPs of the tokens counted, of the models whose size the price table has."""
    money: float | None
    """Of the models whose price the table has, in `Comparison.currency`."""
    estimated: bool = False
    """Tokens are a share of a larger run's: this method was read off that run."""
    cached_tokens: float = 0.0
    """Of the prompt tokens, those that the server had in its cache."""
    seconds: float = 0.0
    """Waiting for models, as the runs side by side left them room."""

    @property
    def tokens(self) -> float:
        """Prompt and completion tokens."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True)
class Method:
    """What was run."""

    name: str
    """Such as "tpo"; the part of the batch names."""
    label: str
    """For people, such as "TPO D2-N5"."""
    width: int
    depth: int
    prompts: str
    model: str
    """The policy."""
    read_off: str | None = None
    """Name of the method whose runs contain this one's; None for one that was run itself."""
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    """Strategies, where they are not those of the comparison."""
    control: bool = False
    """It should lose."""


@dataclass(frozen=True)
class MethodResult:
    """One method over all prompts and seeds. Means are over prompts, of means over seeds."""

    method: Method
    finished: int
    """Runs that ended with an answer."""
    failed: int
    """Runs without one; their prompts are in no mean of that seed."""
    reward: Estimate | None
    """None when no run finished."""
    gain: Estimate | None
    """Reward minus that of the best first sample (`Answer.first`)."""
    length: Estimate | None
    """Characters of the answer."""
    tokens: Estimate | None
    """Of a run."""
    cost: Cost | None
    audit: Estimate | None
    """Mean of the held-out reward model's scores."""
    seeds: list[Seed]
    answers: list[Answer]


@dataclass(frozen=True)
class WinRate:
    """How often the first method's answer is the better one, by one scorer."""

    by: Scorer
    scorer: str
    """Name of the reward model or judge."""
    wins: int
    ties: int
    """Equal scores; for a judge, verdicts of "tie" and the `inconsistent` ones."""
    losses: int
    rate: Estimate | None
    """(wins + ties/2) / decided; None when nothing could be judged."""
    inconsistent: int = 0
    """Judge: the verdict did not stay the same when the answers changed places."""
    failed: int = 0
    """Judge: no verdict could be had; in none of the other numbers."""
    error: str | None = None
    """The first of these failures."""


@dataclass(frozen=True)
class Pair:
    """Two methods on the prompts that both answered, under the same seeds."""

    first: str
    """Name of a method."""
    second: str
    prompts: int
    reward: Estimate | None
    """Mean of first minus second, paired by prompt; None without a common prompt."""
    length: Estimate | None
    """The same difference in characters."""
    audit: Estimate | None
    win_rates: list[WinRate]
    p: float | None = None
    """Of the reward difference, by Student's t over prompts; None without an interval."""
    p_corrected: float | None = None
    """The same, corrected for the number of pairs (Holm)."""
    prompts_needed: int | None = None
    """How many prompts would tell a difference as large as this one from 0, four times of five."""


@dataclass(frozen=True)
class Point:
    """One step of a curve."""

    step: int
    """0 for the first samples."""
    reward: Estimate
    """Mean reward of the responses sampled in this step (not of the best so far)."""
    best: Estimate
    """Reward of the best response up to this step."""
    spread: Estimate
    """Standard deviation of the rewards within one run's samples of this step."""
    length: float
    """Mean characters of the step's samples."""
    prompts: int
    """Prompts that got this far."""


@dataclass(frozen=True)
class Curve:
    """Sampled reward per step (paper, Figure 3); one point only for an unrefined baseline."""

    method: str
    label: str
    baseline: bool
    points: list[Point]


@dataclass(frozen=True)
class Stability:
    """Spread of the final reward over repeated runs of the same prompt (paper, Figure 4)."""

    method: str
    label: str
    runs: int
    """Repetitions."""
    prompts: int
    """Those with at least two finished runs."""
    std: Estimate | None
    """Standard deviation over the runs of a prompt (n - 1), mean over prompts."""
    difference: Estimate | None
    """`std` minus that of the first entry, one unrefined sample, paired by prompt."""
    reward: Estimate | None


@dataclass(frozen=True)
class Cell:
    """One setting of the width x depth grid (paper, Figure 5)."""

    width: int
    depth: int
    prompts: int
    reward: Estimate
    """Of the best response of such a run."""
    gain: Estimate
    """Over the best first sample."""
    samples: float
    tokens: float
    """Of such a run: the part of the deepest run of this width up to this depth."""


@dataclass(frozen=True)
class Comparison:
    """All of `comparison.json`."""

    kind: Kind
    name: str
    created_at: str
    """ISO 8601, UTC."""
    database: str
    """Where the runs are, without the password."""
    source: str
    """Where the prompts came from."""
    prompts: int
    """Rows that could be asked."""
    bad_rows: int
    """Rows that could not."""
    seeds: list[int]
    model: str
    critic: str
    reward_model: str
    methods: list[MethodResult]
    pairs: list[Pair] = field(default_factory=list[Pair])
    curves: list[Curve] = field(default_factory=list[Curve])
    stability: list[Stability] = field(default_factory=list[Stability])
    grid: list[Cell] = field(default_factory=list[Cell])
    budget: Budget | None = None
    """In what the methods were made equal; None where they were not."""
    audit_reward_model: str | None = None
    judge: str | None = None
    currency: str = ""
    notes: list[str] = field(default_factory=list[str])
    """What a reader of the numbers must know, in sentences."""
    command: str = ""
    """What was typed, without secrets; "" where it was made in Python."""
    version: str = ""
    """Of tpo_graph."""

    def result(self, method: str) -> MethodResult:
        """The result of the method of that name.

        Raises:
            KeyError: there is none.
        """
        for result in self.methods:
            if result.method.name == method:
                return result
        raise KeyError(method)


_ADAPTER = TypeAdapter(Comparison)


def to_json(comparison: Comparison) -> str:
    """The text of the file."""
    values = {"format": FORMAT, **asdict(comparison)}
    return json.dumps(values, ensure_ascii=False, indent=1, allow_nan=False)


def dump(comparison: Comparison, folder: str | Path) -> Path:
    """Write `comparison.json` in a folder, which is made if need be; whole or not at all.

    Raises:
        ConfigurationError: it cannot be written there.
    """
    target = Path(folder) / FILE
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ConfigurationError(f"{str(target)!r} cannot be written: {e}") from e
    with replaced(target) as file:
        file.write(to_json(comparison).encode())
    return target


def refuse_other(folder: str | Path, **identity: Any) -> None:
    """Make sure that no other comparison is overwritten, before anything is run.

    Args:
        folder: where the new one will be written.
        identity: fields that it must share with one that is there already.

    Raises:
        ConfigurationError: another comparison is there.
    """
    if not (Path(folder) / FILE).exists():
        return
    before = load(folder)
    changes = [
        f"{name}={getattr(before, name)!r}, not {value!r}"
        for name, value in identity.items()
        if getattr(before, name) != value
    ]
    if changes:
        raise ConfigurationError(
            f"{str(Path(folder) / FILE)!r} is another comparison: {', '.join(changes)}. Name "
            "another folder with --output, or replace it with --fresh."
        )


def load(path: str | Path) -> Comparison:
    """Read a comparison back.

    Args:
        path: `comparison.json`, or the folder that holds it.

    Raises:
        ConfigurationError: no such file, it is damaged, or a newer version wrote it.
    """
    file = Path(path) / FILE if Path(path).is_dir() else Path(path)
    try:
        values: object = json.loads(file.read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigurationError(
            f"no comparison at {str(path)!r}: {e}. `tpo compare` and `tpo analyze` write one into "
            "the folder given by --output."
        ) from e
    except (ValueError, RecursionError) as e:
        raise ConfigurationError(f"{str(file)!r} is not JSON: {e}. {_REMEDY}") from e
    if not isinstance(values, dict) or "format" not in values:
        raise ConfigurationError(
            f'{str(file)!r} is not a comparison: it has no "format". {_REMEDY}'
        )
    content = cast("dict[str, Any]", values)
    number = content.pop("format")
    if isinstance(number, int) and number > FORMAT:
        raise ConfigurationError(
            f"{str(file)!r} has format {number!r}, and this version of tpo_graph reads up to "
            f"{FORMAT}: upgrade it, or run the comparison again."
        )
    try:
        return _ADAPTER.validate_python(content)
    except ValidationError as e:
        first = e.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigurationError(
            f"{str(file)!r} is damaged: {where}: {first['msg']}. {_REMEDY}"
        ) from e


_REMEDY = "Run the same command again: finished runs are taken from the database."
