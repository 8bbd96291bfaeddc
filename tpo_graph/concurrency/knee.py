"""How much work a model server takes before requests begin to wait: estimated from finished steps.

A step's time is a wait plus its length times the time per token. Over steps of different lengths
the two can be told apart (least squares), with no help from the server. While nothing waits there
is room for more; what share of the time is waiting says by how much there is too much (Little's
law: at full throughput, work in flight and time grow together). A server that never lets anybody
wait but slows down for all is kept from more than three times its fastest.

`concurrency.py` gives it steps and asks for the limit.
"""

import math

START = 160.0
"""Samples in flight to begin with: 32 runs of 5. Few servers are slow with it for long."""
HEADROOM = 0.15
"""What is kept in flight beyond the knee, so that no slot of the server is ever empty."""
SLOWEST = 3.0
"""Time per token, against the fastest seen, from which on the server counts as overloaded."""
_QUEUE = 0.25
"""Part of the time spent waiting that ends the doubling: more than chance makes of few steps."""
_MEMORY = 1.5
"""For how many steps of each run in flight a step is remembered."""
_FEWEST = 8
"""Steps to have seen before anything is concluded."""


class Knee:
    """The limit, in samples (or responses to score) in flight; `add` moves it."""

    def __init__(self) -> None:
        self.limit = START
        self._growing = True
        """Nothing has had to wait so far: the limit may double every round."""
        self._steps = 0.0
        self._length = 0.0
        self._seconds = 0.0
        self._length_squared = 0.0
        self._length_seconds = 0.0
        self._scored = 0.0
        self._scoring_seconds = 0.0
        self._work_seconds = 0.0
        self._fastest = math.inf
        """Seconds per token."""
        self._fastest_scoring = math.inf
        """Seconds per response."""

    def add_reply(self, seconds: float, length: float, work: float, part: float, runs: int) -> None:
        """Learn from a finished model call.

        Args:
            seconds: how long it took.
            length: tokens of its longest reply.
            work: samples in flight meanwhile, on average.
            part: its own part of them.
            runs: runs in flight.
        """
        self._forget(runs)
        self._steps += 1
        self._length += length
        self._seconds += seconds
        self._length_squared += length * length
        self._length_seconds += length * seconds
        self._work_seconds += work * seconds
        self._move(part)

    def add_scores(
        self, seconds: float, responses: int, work: float, part: float, runs: int
    ) -> None:
        """Learn from a finished call of the reward model; arguments as for `add_reply`."""
        self._forget(runs)
        self._scored += responses
        self._scoring_seconds += seconds
        self._work_seconds += work * seconds
        self._move(part)

    def overloaded(self) -> None:
        """The server has refused a call, or let it time out."""
        self._growing = False
        self.limit *= 0.7

    def _forget(self, runs: int) -> None:
        keep = math.exp(-1 / (_MEMORY * max(_FEWEST, runs)))
        self._steps *= keep
        self._length *= keep
        self._seconds *= keep
        self._length_squared *= keep
        self._length_seconds *= keep
        self._scored *= keep
        self._scoring_seconds *= keep
        self._work_seconds *= keep

    def _move(self, part: float) -> None:
        total = self._seconds + self._scoring_seconds
        if self._steps < _FEWEST / 2 or total <= 0:
            return
        waiting = min(0.9, (self._waiting() + self._waiting_for_scores()) / total)
        if waiting > _QUEUE:
            self._growing = False
        knee = self._work_seconds / total * (1 - waiting)
        goal = knee * (2 if self._growing else 1 + HEADROOM)
        # All steps in flight together move it all the way.
        self.limit = max(1.0, self.limit + min(1.0, part) * (goal - self.limit))

    def _waiting(self) -> float:
        """Seconds that the remembered model calls have waited."""
        self._fastest = min(self._fastest, self._seconds / self._length)
        slowed = self._seconds - SLOWEST * self._fastest * self._length
        spread = self._length_squared - self._length**2 / self._steps
        if spread <= 1e-9 * self._length_squared:
            return max(0.0, slowed)  # replies of one length say nothing more
        covariance = self._length_seconds - self._length * self._seconds / self._steps
        waited = self._seconds - covariance / spread * self._length
        return max(0.0, waited, slowed)

    def _waiting_for_scores(self) -> float:
        if self._scored < _FEWEST:
            return 0.0
        self._fastest_scoring = min(self._fastest_scoring, self._scoring_seconds / self._scored)
        # Twice the fastest is what a batch may take that serves several queries at once.
        return max(0.0, self._scoring_seconds - 2 * self._fastest_scoring * self._scored)
