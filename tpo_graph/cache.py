"""The cache C of the algorithm as nodes see it, and the one that lives in memory.

Nodes write what they have just paid for, one `record` per node; `session` and the command line read
them back. The SQL cache (`tpo_graph.store`) keeps the same promises in a database.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Required, TypedDict, Unpack

from tpo_graph.candidates import Candidate, Score
from tpo_graph.conversation import Turn, response_key
from tpo_graph.errors import ConfigurationError
from tpo_graph.usage import Usage


class Run(TypedDict):
    """What identifies a run and makes it repeatable; values only, no secrets."""

    run_id: str
    thread_id: str | None
    """LangGraph thread that holds the run's checkpoints, if it has any."""
    conversation: list[Turn]
    settings: dict[str, Any]
    """The run's `TPOContext`, fields that differ from the defaults included or not."""
    policy: str
    critic: str
    reward_model: str
    prompts: str


class Step(TypedDict, total=False):
    """What one iteration decided and wrote; nodes fill it in part by part."""

    iteration: Required[int]
    chosen: Candidate
    rejected: Candidate
    loss: str
    gradient: str


class UnusableReply(TypedDict):
    """A reply that was paid for and is no candidate."""

    iteration: int
    """Below 0: of an attempt that was drawn anew later (`store.attempts`)."""
    stage: str
    """The node that could not use it."""
    position: int
    """Index among the node's unusable replies, from 0."""
    text: str
    """All that the model wrote."""
    why: str
    """"empty", "no tag" or "cut" (`models.replies`); from `reward_score`, why it has no reward."""


class Scores(TypedDict):
    """Where rewards belong in the score cache."""

    reward_model: str
    """`RewardModel.name`."""
    conversation: str
    """`conversation_key` of the conversation that was answered."""


class Said(TypedDict, total=False):
    """What a node has to say of its work in one iteration."""

    usage: Usage
    """What it consumed."""
    candidates: Sequence[Candidate]
    """The scored samples of this iteration (from `reward_score`)."""
    scores: Scores | None
    """When given, the candidates' rewards enter the score cache under this key."""
    step: Step | None
    """Fields of this iteration's step; those absent keep their stored values."""
    stop_reason: str
    """Why the run ended; only `select` gives it."""
    error: str | None
    """Which failure ended it, if one did."""
    unusable: Sequence[tuple[str, str]]
    """Replies that the node could not use: their texts, and why."""


class Cache(Protocol):
    """Candidates, steps, usage and scores of runs.

    Every write is idempotent on its natural key (run, iteration, position or stage): a node that
    runs twice leaves one set of rows, the newest. Methods may be called from several tasks.
    """

    async def begin(self, run: Run) -> None:
        """Make the run known, before its first model call."""
        ...

    async def record(self, run_id: str, iteration: int, stage: str, **said: Unpack[Said]) -> None:
        """Store all that one node has to say, in one transaction.

        Args:
            stage: the node's name.
            said: what there is to store.
        """
        ...

    async def set_aside(self, run_id: str, stage: str, usage: Usage) -> None:
        """Keep what an attempt at a step consumed that did not end, beside what it is repeated for.

        Args:
            stage: the node's name.
        """
        ...

    async def known_rewards(self, scores: Scores, responses: Sequence[str]) -> list[Score | None]:
        """The stored reward of each response, None where there is none (in order)."""
        ...

    async def remember(self, scores: Scores, rewards: Mapping[str, float]) -> None:
        """Put rewards by response into the score cache, outside of any run; a `Score` keeps its
        reason."""
        ...

    async def candidates(self, run_id: str) -> list[Candidate]:
        """All candidates of a run, by iteration and position."""
        ...

    async def steps(self, run_id: str) -> list[Step]:
        """All steps of a run, by iteration."""
        ...

    async def unusable(self, run_id: str) -> list[UnusableReply]:
        """The replies of a run that are no candidates, by iteration, stage and position."""
        ...


def need_cache(given: object) -> None:
    """Refuse what is no `Cache`, before a run would find out.

    Raises:
        ConfigurationError: it is none.
    """
    if not callable(getattr(given, "begin", None)) or not callable(getattr(given, "record", None)):
        raise ConfigurationError(
            f"not a cache: {given!r:.200}. Give the `cache` of an open store "
            "(`async with open_store(URL) as store`), or a MemoryCache()."
        )


class RunReader(Protocol):
    """Gives a whole run in one journey, as a run's result needs it."""

    async def whole(self, run_id: str) -> tuple[list[Candidate], list[Step]]:
        """All candidates and all steps of a run, in order."""
        ...


class _MemoryRun:
    def __init__(self) -> None:
        self.candidates: dict[tuple[int, int], Candidate] = {}
        self.steps: dict[int, Step] = {}
        self.unusable: dict[tuple[int, str, int], UnusableReply] = {}


def _score_key(scores: Scores, response: str) -> tuple[str, str, str]:
    return scores["reward_model"], scores["conversation"], response_key(response)


class MemoryCache:
    """A `Cache` that lives and dies with the process.

    Args:
        max_runs: how many runs to remember; the oldest are forgotten first, so that a graph in a
            long-lived server does not grow. None: all of them, until told to `forget`.
        max_scores: how many rewards the score cache remembers.
    """

    def __init__(self, max_runs: int | None = 256, max_scores: int = 65_536) -> None:
        self._max_runs = max_runs
        self._max_scores = max_scores
        self._runs: OrderedDict[str, _MemoryRun] = OrderedDict()
        self._scores: OrderedDict[tuple[str, str, str], Score] = OrderedDict()

    async def begin(self, run: Run) -> None:
        """See `Cache.begin`."""
        self._run(run["run_id"])

    async def record(self, run_id: str, iteration: int, stage: str, **said: Unpack[Said]) -> None:
        """See `Cache.record`. Usage, stop reason and error are in the graph's state already."""
        run = self._run(run_id)
        scores, step = said.get("scores"), said.get("step")
        for candidate in said.get("candidates", ()):
            run.candidates[candidate["iteration"], candidate["position"]] = candidate
            if scores is not None:
                score = Score(candidate["reward"], candidate.get("reason", ""))
                self._scores[_score_key(scores, candidate["response"])] = score
        self._forget_scores()
        if step is not None:
            known = run.steps.get(iteration, Step(iteration=iteration))
            run.steps[iteration] = {**known, **step}
        for position, (text, why) in enumerate(said.get("unusable", ())):
            run.unusable[iteration, stage, position] = UnusableReply(
                iteration=iteration, stage=stage, position=position, text=text, why=why
            )

    async def set_aside(self, run_id: str, stage: str, usage: Usage) -> None:
        """See `Cache.set_aside`. The graph's state has it, where the run has gone so far."""

    async def known_rewards(self, scores: Scores, responses: Sequence[str]) -> list[Score | None]:
        """See `Cache.known_rewards`."""
        return [self._scores.get(_score_key(scores, response)) for response in responses]

    async def remember(self, scores: Scores, rewards: Mapping[str, float]) -> None:
        """See `Cache.remember`."""
        for response, reward in rewards.items():
            score = reward if isinstance(reward, Score) else Score(reward)
            self._scores[_score_key(scores, response)] = score
        self._forget_scores()

    async def candidates(self, run_id: str) -> list[Candidate]:
        """See `Cache.candidates`."""
        run = self._run(run_id)
        return [run.candidates[key] for key in sorted(run.candidates)]

    async def steps(self, run_id: str) -> list[Step]:
        """See `Cache.steps`."""
        run = self._run(run_id)
        return [run.steps[key] for key in sorted(run.steps)]

    async def unusable(self, run_id: str) -> list[UnusableReply]:
        """See `Cache.unusable`."""
        run = self._run(run_id)
        return [run.unusable[key] for key in sorted(run.unusable)]

    async def whole(self, run_id: str) -> tuple[list[Candidate], list[Step]]:
        """See `RunReader.whole`."""
        return await self.candidates(run_id), await self.steps(run_id)

    def forget(self, run_id: str) -> None:
        """Drop a run that is not going to be read again; its rewards stay in the score cache."""
        self._runs.pop(run_id, None)

    def _forget_scores(self) -> None:
        while len(self._scores) > self._max_scores:
            self._scores.popitem(last=False)

    def _run(self, run_id: str) -> _MemoryRun:
        run = self._runs.setdefault(run_id, _MemoryRun())
        self._runs.move_to_end(run_id)
        while self._max_runs is not None and len(self._runs) > self._max_runs:
            self._runs.popitem(last=False)
        return run
