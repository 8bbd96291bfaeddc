"""What `tpo` shows on standard error: live progress, the table of iterations, the trajectory."""

from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import rich.console
from rich.padding import Padding
from rich.segment import Segment
from rich.status import Status
from rich.table import Table
from rich.text import Text

from tpo_graph.candidates import Candidate, place
from tpo_graph.cli.output import say, visible
from tpo_graph.events import Event

if TYPE_CHECKING:
    from tpo_graph.session.result import Audit, TPOResult


class Console(rich.console.Console):
    """A console on which control characters of a text are visible, and do nothing.

    Where there is no terminal, lines are not filled up with spaces to some width.
    """

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich does, less the spaces that it puts behind the last word of a line in a pipe."""
        if self.is_terminal:
            super().print(*objects, **options)
            return
        with self.capture() as printed:
            super().print(*objects, **options)
        self.file.write("\n".join(line.rstrip(" ") for line in printed.get().split("\n")))
        self.file.flush()

    def render(
        self,
        renderable: rich.console.RenderableType,
        options: rich.console.ConsoleOptions | None = None,
    ) -> Iterable[Segment]:
        """As rich does; its own colours and movements never stand in a segment's text."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else visible(text), style, control)


console = Console(stderr=True, highlight=False)


def for_tables() -> Console:
    """Standard output; a pipe has no width: nothing is cut that a grep may look for."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=200)


def loading(*models: str | None) -> str:
    """ "loading models, " where one of these is loaded into this process, which takes a while; said
    at once where there is no terminal."""
    if not any("local:" in (model or "") for model in models):
        return ""
    if not console.is_terminal:
        say("loading models")
    return "loading models, "


class LiveStatus:
    """A line that says what is being done, while in its `with` block and on a terminal."""

    def __init__(self, first: str) -> None:
        self._status = Status(first, console=console)

    def __enter__(self) -> Self:
        if console.is_terminal:
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._status.stop()


class Progress(LiveStatus):
    """Progress of one run on a terminal: a line per scored iteration, and what is being done."""

    def __init__(self, depth: int, *models: str | None) -> None:
        super().__init__(f"{loading(*models)}sampling")
        self._depth = depth
        self._best = float("-inf")

    def show(self, event: Event) -> None:
        """Take note of one event; where no terminal is there, say nothing."""
        if not console.is_terminal:
            return
        if event["event"] == "samples":
            self._status.update(f"scoring {event['n']} responses")
        elif event["event"] == "rewards":
            self._rewards(event["iteration"], event["rewards"])
            self._status.update("comparing best and worst")
        elif event["event"] == "loss":
            self._status.update("writing instructions")
        elif event["event"] == "gradient":
            self._status.update("writing better responses")

    def _rewards(self, iteration: int, rewards: list[float]) -> None:
        self._best = max([self._best, *rewards])
        shown = " ".join(f"{reward:.2f}" for reward in sorted(rewards, reverse=True)[:8])
        more = f" … {len(rewards) - 8} more" if len(rewards) > 8 else ""
        console.print(
            f"iteration {iteration}/{self._depth}  best so far [bold]{self._best:.3f}[/]  "
            f"rewards {shown}{more}"
        )


def print_iterations(result: "TPOResult") -> None:
    """The table of a run: rewards per iteration, then tokens and why it stopped."""
    table = Table("iteration", box=None, pad_edge=False)
    for title in ("n", "mean", "best", "worst", "best so far", "characters", "tokens"):
        table.add_column(title, justify="right")
    for row in result.history:
        numbers = (row["mean"], row["max"], row["min"], row["best_so_far"])
        table.add_row(
            str(row["iteration"]),
            str(row["n"]),
            *("-" if number is None else f"{number:.3f}" for number in numbers),
            "-" if row["length"] is None else f"{row['length']:.0f}",
            str(row["tokens"]),
        )
    console.print()
    console.print(table)
    calls = [usage for stage, usage in result.usage.items() if stage != "reward_score"]
    prompt = sum(usage["prompt_tokens"] for usage in calls)
    completion = sum(usage["completion_tokens"] for usage in calls)
    requests = sum(usage["requests"] for usage in calls)
    console.print(
        f"reward {result.reward:.3f} from iteration {result.iteration}, stopped by "
        f"{result.stop_reason}; {requests} requests, {prompt} prompt and {completion} completion "
        f"tokens; run {result.run_id}",
        soft_wrap=True,
    )
    if result.audit is not None:
        _print_audit(result.audit)
    elif result.audit_error is not None:
        console.print(Text(f"no audit: {result.audit_error}", style="yellow"), soft_wrap=True)


def end_if_failed(result: "TPOResult", again: str | None) -> None:
    """Of a run that a failure ended early: say so, and end the command with 1.

    Args:
        again: the command that resumes it, if it is kept.
    """
    if result.error is None:
        return
    hint = "" if again is None else f" Resume at the step that failed with: {again}"
    say(f"Warning: the run ended early, with the best response so far. {result.error}{hint}")
    raise SystemExit(1)


def _print_audit(audit: "Audit") -> None:
    said = f"audit by {audit.reward_model}: {audit.first:.3f} before, {audit.final:.3f} after"
    if audit.overoptimized:
        said += "; the reward rose and the audit fell: over-optimized"
    if audit.fell_back:
        said += ", so this is the best first sample"
    console.print(Text(said, style="yellow" if audit.overoptimized else ""), soft_wrap=True)


def print_trajectory(result: "TPOResult") -> None:
    """How the answer came about: per iteration the pair, the loss and the instructions."""
    for step in result.steps:
        console.rule(f"iteration {step['iteration']}", align="left")
        for title in ("chosen", "rejected"):
            if candidate := step.get(title):
                _print_candidate(title, candidate)
        for title in ("loss", "gradient"):
            if text := step.get(title):
                _print_text(title, text)
    console.rule("answer", align="left")


def _print_candidate(title: str, candidate: Candidate) -> None:
    about = f"{title}  reward {candidate['reward']:.3f}  ({place(candidate)})"
    _print_text(about, candidate["response"])


def _print_text(title: str, text: str) -> None:
    console.print(Text(title, style="bold"))
    # As Text, never as markup: model output may contain anything.
    console.print(Padding(Text(text), (0, 0, 0, 2)))
