"""From a request to its outcome: which run answers it, and how that run is made or resumed.

A run's id follows from the request, so the same request meets its run again, in this process, after
a restart, or in another process on the same database.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from tpo_graph.context import Sampling, TPOContext
from tpo_graph.conversation import conversation_key, turns
from tpo_graph.errors import ConfigurationError, RunBusyError, RunExistsError, RunNotFoundError
from tpo_graph.nodes.handles import check_criteria
from tpo_graph.serve.base import Base, Completion
from tpo_graph.serve.catalog import Catalog
from tpo_graph.serve.completions import Outcome
from tpo_graph.serve.formats import Format, Formatted
from tpo_graph.serve.live import Answers, Live, Say
from tpo_graph.serve.metrics import Metrics
from tpo_graph.serve.options import ServeOptions
from tpo_graph.serve.progress import Progress
from tpo_graph.serve.refusals import invalid, other_request
from tpo_graph.serve.request import Asked
from tpo_graph.serve.turns import Turns
from tpo_graph.serve.window import Window
from tpo_graph.session.result import TPOResult
from tpo_graph.session.session import Drafts, NothingToImproveError, Session, open_session
from tpo_graph.settings import Settings
from tpo_graph.stopping import need_prices
from tpo_graph.store.runs import StoredRun, newest_run
from tpo_graph.store.tables import now
from tpo_graph.strategies import KINDS, named

_MOST_TOKENS = ("max_completion_tokens", "max_tokens")
"""OpenAI's names, the newer one first, for the most tokens of a reply."""
_POLL_SECONDS = 0.5
"""How often to look whether another process has ended with a run."""


@dataclass(frozen=True)
class Identity:
    """What the same request has in common with itself."""

    key: str
    """64 hex digits."""
    given: bool
    """The client named it, by an Idempotency-Key."""


def identity(asked: Asked, headers: Mapping[str, str], names: Mapping[str, str]) -> Identity:
    """What identifies a request: its Idempotency-Key, else all that the answer depends on.

    Args:
        names: the server's models and prompts.
    """
    given = headers.get("idempotency-key")
    parts = [hashlib.sha256(headers.get("authorization", "").encode()).hexdigest()]
    if given:
        parts += ["named", given]
    else:
        fresh = "no-cache" in headers.get("cache-control", "")
        parts += [asked.fingerprint, *sorted(names.values()), str(uuid4()) if fresh else ""]
    return Identity(hashlib.sha256("\n".join(parts).encode()).hexdigest(), bool(given))


@dataclass(frozen=True)
class Service:
    """All that the endpoints work with."""

    options: ServeOptions
    settings: Settings
    catalog: Catalog
    runs: Session
    base: Base
    window: Window
    answers: Answers[Outcome]
    turns: Turns
    metrics: Metrics

    @asynccontextmanager
    async def attached(
        self, asked: Asked, headers: Mapping[str, str]
    ) -> AsyncGenerator[Live[Outcome]]:
        """The outcome of this request, in the making or made.

        Raises:
            Refusal: there is no room for it.
        """
        same = identity(asked, headers, self.runs.names)

        async def work(say: Say) -> Outcome:
            return await self._outcome(asked, same, say)

        async with self.answers.attached(same.key, asked.fingerprint, work) as live:
            yield live

    def admit(self, asked: Asked, headers: Mapping[str, str]) -> None:
        """See `Answers.admit`; what no run of this server could follow is refused first.

        Raises:
            Refusal: it names a strategy that does not exist, criteria that no prompt would show, or
                there is no room for it.
        """
        assert asked.context is not None
        try:
            check_criteria(asked.context.criteria, self.runs.prompts)
            for kind in KINDS:
                if (name := getattr(asked.context, kind)) is not None:
                    named(kind, name)
        except ConfigurationError as error:
            raise invalid(f"in tpo: {error}", "tpo") from None
        self.answers.admit(identity(asked, headers, self.runs.names).key)

    async def _outcome(self, asked: Asked, same: Identity, say: Say) -> Outcome:
        run_id, stored = await self._place(same)
        if stored is not None:
            self._need_same(asked, stored, same)
            if stored["status"] != "finished":
                say("resuming what was begun\n")
        about = run_id, asked.fingerprint
        made: list[Completion] = []

        async def drafts() -> list[str]:
            """Of the base model's own turn; while the run is held, so that only one makes it."""
            if not asked.turn and asked.form is None:
                return []
            turn = await self.turns.find(*about, self.options.seconds_of(same.given))
            if turn is None:
                turn = await self._own_turn(asked)
                if texts := _drafts(turn, asked.form):
                    made[:] = [turn]
                    return texts
                turn = {**turn, "choices": turn["choices"][:1]}
                await self.turns.keep(*about, turn)
            made[:] = [turn]
            raise NothingToImproveError

        try:
            result = await self._run(asked, run_id, drafts, say)
        except NothingToImproveError:
            return Outcome(turn=made[0])
        self.metrics.ran(result)
        return Outcome(result, made[0] if made else None)

    async def _run(self, asked: Asked, run_id: str, drafts: Drafts, say: Say) -> TPOResult:
        """The run, made, resumed, or waited for while another process makes it."""
        progress = Progress(say)
        runs, context = self._runs_of(asked), self._context(asked)
        waited = False
        while True:
            try:
                return await runs.run_or_resume(
                    asked.messages, context, run_id, on_event=progress.show, drafts=drafts
                )
            except RunBusyError:
                pass
            except RunNotFoundError:
                waited = False  # the other process had nothing to improve
                continue
            except RunExistsError:
                pass  # another process began it between our look and our own beginning
            if not waited:
                say("another server process works on the same request; waiting for it\n")
            waited = True
            await asyncio.sleep(_POLL_SECONDS)

    async def _place(self, same: Identity) -> tuple[str, StoredRun | None]:
        """The id of the run that answers, and the run itself if there is one.

        The last 32 bits of an id count how often a request was answered anew.
        """
        first = int(same.key[:24], 16) << 32
        store = self.runs.store
        if store is None:
            return str(UUID(int=first)), None
        last = first | 0xFFFFFFFF
        found = await newest_run(store, str(UUID(int=first)), str(UUID(int=last)))
        if found is None:
            return str(UUID(int=first)), None
        window = timedelta(seconds=self.options.seconds_of(same.given))
        if found["status"] == "finished" and now() - found["updated_at"] > window:
            return str(UUID(int=UUID(found["run_id"]).int + 1)), None
        return found["run_id"], found

    def _need_same(self, asked: Asked, stored: StoredRun, same: Identity) -> None:
        """Refuse an Idempotency-Key whose run answers something else."""
        same_question = stored["conversation_key"] == conversation_key(turns(asked.messages))
        if same.given and not (
            same_question and stored["settings"] == self._context(asked).model_dump(mode="json")
        ):
            raise other_request()

    async def _own_turn(self, asked: Asked) -> Completion:
        """The base model's own completion: one that may call tools, or drafts of a given form.

        It is drawn as the run's samples are.
        """
        context = asked.context
        assert context is not None
        dropped = ("stream", "stream_options", "n", "stop", *Sampling.__annotations__)
        most = next((n for n in _MOST_TOKENS if asked.body.get(n) is not None), _MOST_TOKENS[0])
        drawn = {
            "temperature": context.temperature,
            "top_p": context.top_p,
            "seed": context.seed,
            most: context.max_tokens,
        }
        body = {name: value for name, value in asked.body.items() if name not in dropped}
        body |= {name: value for name, value in drawn.items() if value is not None}
        return await self.base.several(body, 1 if asked.turn else context.width)

    def _context(self, asked: Asked) -> TPOContext:
        """The run's context, in which the form of the answer is one of the criteria."""
        assert asked.context is not None
        if asked.form is None or not self.runs.prompts.uses_criteria:
            return asked.context
        criteria = "\n".join(filter(None, [asked.context.criteria, asked.form.criteria]))
        return asked.context.model_copy(update={"criteria": criteria})

    def _runs_of(self, asked: Asked) -> Session:
        """Where the request's run is made: under a reward model that knows its form."""
        if asked.form is None:
            return self.runs
        return self.runs.scored_by(Formatted(self.runs.judge, asked.form))


def _drafts(turn: Completion, form: Format | None) -> list[str]:
    """The texts that a run can begin with; none when tools were called, or nothing fits."""
    messages: list[dict[str, Any]] = [choice["message"] for choice in turn["choices"]]
    if any(message.get("tool_calls") or message.get("function_call") for message in messages):
        return []
    texts = [str(message.get("content") or "") for message in messages]
    fit = [text for text in texts if text.strip() and (form is None or form.fits(text))]
    # One that fits is enough: the others count among the first samples, and get no score.
    return [text for text in texts if text.strip()] if fit else []


def _is_whole(outcome: Outcome) -> bool:
    """Whether nothing failed; a run that a failure ended early is resumed by the next request."""
    return outcome.result is None or outcome.result.error is None


@asynccontextmanager
async def service(
    settings: Settings,
    options: ServeOptions,
    **given: Any,
) -> AsyncGenerator[Service]:
    """Load the models and open the database.

    Args:
        given: `model`, `reward_model`, `critic`: objects in place of the names in the settings.

    Raises:
        ConfigurationError: a name or a prompt set is wrong, or prices are missing for a budget.
        StoreError: the database cannot be opened.
    """
    setup = settings.setup(**{role: each for role, each in given.items() if each})
    async with open_session(setup) as runs:
        critic = None if runs.setup.critic is None else runs.names["critic"]
        catalog = Catalog(runs.names["policy"], critic, settings)
        need_prices(
            TPOContext.checked(settings.run_options()),
            {"policy": catalog.policy, "critic": critic or catalog.policy},
        )
        answers = Answers[Outcome](
            options.max_runs, options.queue, options.replay_seconds, _is_whole
        )
        yield Service(
            options=options,
            settings=settings,
            catalog=catalog,
            runs=runs,
            base=Base(runs.policy, catalog.base),
            window=Window(runs.policy),
            answers=answers,
            turns=Turns(runs.store, max(map(options.seconds_of, (False, True)))),
            metrics=Metrics(answers),
        )
