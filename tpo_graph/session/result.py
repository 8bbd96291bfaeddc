"""What `optimize` returns: the answer, and everything that led to it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from html import escape
from typing import TYPE_CHECKING, Any

from tpo_graph.cache import Step
from tpo_graph.candidates import Candidate, IterationSummary, best, place
from tpo_graph.context import RunOptions
from tpo_graph.costs import Role, bill
from tpo_graph.extras import extra
from tpo_graph.stopping import StopReason
from tpo_graph.usage import Ledger, total_tokens

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Audit:
    """What a second reward model, which nothing was optimised for, says of the run."""

    reward_model: str
    """Its name."""
    first: float
    """Its score of the best first sample (best by the run's own reward model)."""
    final: float
    """Its score of the best response of the run."""
    overoptimized: bool
    """The run's reward rose and the audit's fell: the reward model was played, not the task."""
    fell_back: bool = False
    """The answer is the best first sample for that reason."""


@dataclass(frozen=True)
class TPOResult:
    """One run that has ended; a notebook shows it as a table with the answer."""

    response: str
    """The best response ever seen (argmax of the cache)."""
    reward: float
    """Its reward."""
    iteration: int
    """The iteration that wrote it; 0 is a first sample."""
    stop_reason: StopReason
    run_id: str
    candidates: list[Candidate]
    """Every scored response, by iteration and position."""
    steps: list[Step]
    """Per iteration: chosen, rejected, loss, gradient."""
    history: list[IterationSummary]
    """Per iteration: numbers of its samples."""
    usage: Ledger
    """Per stage: requests, tokens, seconds."""
    error: str | None = None
    """Which failure of a model ended the run early (`stop_reason` "failed"): the answer is the best
    until then, and `resume` repeats the step that failed."""
    may_pass: bool = False
    """Whether that error may not come again: nothing says that what was asked is at fault."""
    audit: Audit | None = None
    """The held-out audit, if one was asked for and its reward model answered."""
    audit_error: str | None = None
    """Why there is no audit though one was asked for; the answer stands without it."""
    query: str = ""
    """What was asked: the text of the last message of the person asking."""
    models: Mapping[Role, str] = field(default_factory=dict[Role, str])
    """Names of "policy", "critic" and "reward_model"."""
    settings: RunOptions | None = None
    """What the run was told."""

    def to_dict(self) -> dict[str, Any]:
        """The whole of it in plain values, as `tpo run --json` prints it."""
        settings = None if self.settings is None else self.settings.model_dump(mode="json")
        return {**asdict(replace(self, settings=None)), "settings": settings}

    @property
    def first_best(self) -> float:
        """The reward of the best first sample: what best-of-N would have answered with."""
        return self.history[0]["best_so_far"]

    @property
    def gain(self) -> float:
        """How far the answer's reward is above the best first sample's; never below 0."""
        return self.reward - self.first_best

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens of all stages but the reward model's."""
        return total_tokens(self.usage)

    @property
    def cost(self) -> float | None:
        """What the run has cost; None where policy or critic has no price.

        At the run's own prices (`input_price`, `cached_price`, `output_price`), in their currency;
        without any at list prices in US dollars (`costs.list_price`), a judge's included.
        """
        if not self.models:
            return None
        found = bill(self.usage, self.models, options=self.settings)
        rows = [row for row in found.rows if row.stage != "reward_score"]
        return None if any(row.cost is None for row in rows) else found.cost

    def to_frame(self) -> "pandas.DataFrame":
        """Every scored response as a row of a pandas data frame.

        Columns: iteration, position (from 0), reward, response, and finish_reason and reason where
        any response has one.

        Raises:
            ConfigurationError: pandas is not installed (`pip install 'tpo-graph[data]'`).
        """
        with extra("data", "TPOResult.to_frame()"):
            import pandas
        return pandas.DataFrame.from_records(self.candidates)

    def __repr__(self) -> str:
        text = self.response if len(self.response) <= 60 else self.response[:59] + "…"
        error = "" if self.error is None else f"error={self.error!r}, "
        return (
            f"TPOResult(reward={self.reward:.4g}, gain={self.gain:.4g}, "
            f"iteration={self.iteration}, stop_reason={self.stop_reason!r}, {error}"
            f"{len(self.candidates)} responses, {self.tokens} tokens, response={text!r})"
        )

    def _repr_html_(self) -> str:
        """What Jupyter shows: rewards, the answer, and what each iteration chose and wrote.

        Every text is escaped: nothing that a model wrote becomes markup.
        """
        firsts = [candidate for candidate in self.candidates if candidate["iteration"] == 0]
        parts = [
            f"<p><b>TPO</b>: reward {self.reward:.3f}, {self.gain:+.3f} against the best first "
            f"sample, from iteration {self.iteration}; stopped by {escape(self.stop_reason)}; "
            f"{self.tokens:,} tokens</p>",
            *([] if self.error is None else [_html_text("Error", self.error)]),
            _html_table(self.history),
            _html_text("Answer", self.response),
        ]
        if firsts and self.iteration > 0:
            first = best(firsts)
            title = f"Best first sample, reward {first['reward']:.3f}"
            parts.append(_html_details(title, [("", first["response"])]))
        for step in self.steps:
            texts = [
                (
                    f"{role}, reward {candidate['reward']:.3f}, {place(candidate)}",
                    candidate["response"],
                )
                for role in ("chosen", "rejected")
                if (candidate := step.get(role)) is not None
            ]
            texts += [(part, text) for part in ("loss", "gradient") if (text := step.get(part))]
            if texts:
                parts.append(_html_details(f"Iteration {step['iteration']}", texts))
        return f"<div>{''.join(parts)}</div>"


def _html_table(history: list[IterationSummary]) -> str:
    columns = ("iteration", "n", "best_so_far", "max", "mean", "min", "tokens")
    head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in columns)
    rows = ("".join(f"<td>{_html_number(row[name])}</td>" for name in columns) for row in history)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _html_number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _html_text(title: str, text: str) -> str:
    head = f"<p><b>{escape(title)}</b></p>" if title else ""
    box = "white-space: pre-wrap; overflow-wrap: anywhere; text-align: left"
    return f'{head}<pre style="{box}" dir="auto">{escape(text)}</pre>'


def _html_details(title: str, texts: list[tuple[str, str]]) -> str:
    body = "".join(_html_text(*pair) for pair in texts)
    return f"<details><summary>{escape(title)}</summary>{body}</details>"
