"""What a client reads while a run is under way: one short line per step."""

from collections.abc import Callable

from tpo_graph.events import Event

_LONGEST = 240
"""Characters of a line; a critique may be pages long."""


class Progress:
    """Turns the events of one run into lines, each ended by a line end.

    Args:
        say: takes a line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._best: float | None = None

    def show(self, event: Event) -> None:
        """Take note of one event of `tpo_graph.events`."""
        line = self._line(event)
        if line:
            self._say(f"{line}\n")

    def _line(self, event: Event) -> str | None:
        if event["event"] == "samples":
            if event["iteration"] == 0:
                return f"{_count(event['n'], 'draft')}, scoring"
            return None if event["n"] else "no usable revision came"
        if event["event"] == "rewards":
            return self._rewards(event["iteration"], event["rewards"])
        if event["event"] == "loss":
            return f"comparison: {_shortened(event['text'])}" if event["text"] else None
        if event["event"] == "gradient":
            return f"to improve: {_shortened(event['text'])}" if event["text"] else None
        return None

    def _rewards(self, iteration: int, rewards: list[float]) -> str | None:
        if not rewards:
            return None
        newest, before = max(rewards), self._best
        self._best = newest if before is None else max(before, newest)
        if iteration == 0 or before is None:
            return f"{_count(len(rewards), 'draft')}, best {newest:.3g}"
        verdict = "" if newest > before else f", no better than {before:.3g}"
        return f"{ordinal(iteration)} revision, best of {len(rewards)}: {newest:.3g}{verdict}"


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, ..."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ending}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _shortened(text: str) -> str:
    line = " ".join(text[: 4 * _LONGEST].split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1].rstrip() + "…"
