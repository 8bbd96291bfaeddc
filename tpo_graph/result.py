"""What `optimize` returns: the answer, and everything that led to it."""

from dataclasses import dataclass

from tpo_graph.cache import Step
from tpo_graph.candidates import Candidate
from tpo_graph.stopping import StopReason
from tpo_graph.summary import IterationSummary
from tpo_graph.usage import Ledger


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
    """One finished run."""

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
    audit: Audit | None = None
    """The held-out audit, if one was asked for and its reward model answered."""
    audit_error: str | None = None
    """Why there is no audit though one was asked for; the answer stands without it."""
