"""One graph and the place where its runs are kept: made for one query or for many.

`session/run.py` and `batch/` open one and start runs on it.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Unpack

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage

from tpo_graph.cache import MemoryCache, Run
from tpo_graph.context import TPOContext
from tpo_graph.conversation import Turn, turns
from tpo_graph.graph import TPOGraph
from tpo_graph.models.connection import ROLES, stored_options
from tpo_graph.models.load import load_chat_model, model_name
from tpo_graph.prompts import PromptSet, load_prompts
from tpo_graph.redaction import redacted
from tpo_graph.rewards import RewardModel, as_reward_model
from tpo_graph.session.audit import audited
from tpo_graph.session.result import TPOResult
from tpo_graph.session.running import Told, as_trace, read_result, run_config, run_graph
from tpo_graph.session.setup import Setup

if TYPE_CHECKING:
    from tpo_graph.store import Store


class NothingToImproveError(Exception):
    """What was to be drafted turned out to be no draft, such as a call of a tool."""


Drafts = Sequence[str] | Callable[[], Awaitable[Sequence[str]]]


@dataclass(frozen=True)
class Session:
    """Starts runs on one graph, or resumes them; open it with `open_session`."""

    setup: Setup
    """What it is made of, loaded."""
    graph: TPOGraph
    store: "Store | None"
    memory: MemoryCache
    """Holds the runs when there is no store, each until it has its result."""
    policy: BaseChatModel
    judge: RewardModel
    prompts: PromptSet
    names: dict[str, str]
    """What a stored run says of its models and prompts."""
    specs: dict[str, Any]
    """By what to load them again, redacted; None for an object, which a resume must be given. And
    whether stored scores were reused, and the name of the `auditor`."""
    auditor: RewardModel | None
    scored_by: "Callable[[RewardModel], Session]"
    """The same with another reward model."""

    async def run(
        self,
        messages: Sequence[BaseMessage],
        context: TPOContext,
        run_id: str,
        *,
        drafts: Drafts = (),
        **told: Unpack[Told],
    ) -> TPOResult:
        """Answer one conversation; arguments and errors are those of `aoptimize`.

        Args:
            drafts: responses that exist already: the first of the first samples; or what makes
                them, called once the run is held. `NothingToImproveError` from there passes on,
                and the run is as if it had never begun.
        """
        result = await self._run(messages, context, run_id, drafts, **told)
        return await self._audited(result, turns(messages))

    async def run_or_resume(
        self,
        messages: Sequence[BaseMessage],
        context: TPOContext,
        run_id: str,
        *,
        limits: Mapping[str, Any] | None = None,
        drafts: Drafts = (),
        **told: Unpack[Told],
    ) -> TPOResult:
        """`run`, unless a run of that id is stored: then resume that one, as it began.

        Args:
            limits: settings that a stored run gets from now on.
            drafts: as in `run`; a stored run has its own.

        Raises:
            RunBusyError: another live process works on it.
            ConfigurationError: the reward model is not the one that the run began with.
        """
        from tpo_graph.session.stored import go_on, held, need_same_rewards
        from tpo_graph.store.runs import find_run

        store = self.store
        if store is None or await find_run(store, run_id) is None:
            return await self.run(messages, context, run_id, drafts=drafts, **told)
        async with held(store, run_id, limits) as run:
            need_same_rewards(run, self.judge)
            result = await go_on(
                store,
                run,
                lambda: self.graph,
                start=lambda: self._start(run_id, messages, drafts),
                **told,
            )
        return await self._audited(result, run["conversation"])

    async def _audited(self, result: TPOResult, conversation: Sequence[Turn]) -> TPOResult:
        if self.auditor is None:
            return result
        return await audited(
            result,
            conversation,
            self.auditor,
            fall_back=self.setup.audit_fallback,
            scores=None if self.store is None else self.store.cache,
        )

    async def _run(
        self,
        messages: Sequence[BaseMessage],
        context: TPOContext,
        run_id: str,
        drafts: Drafts,
        **told: Unpack[Told],
    ) -> TPOResult:
        if self.store is None:
            graph_input = await self._start(run_id, messages, drafts)
            config = as_trace(run_config(run_id, context.depth), run_id)
            try:
                state = await run_graph(self.graph, graph_input, context, config, **told)
                return await read_result(state, self.memory, context, self.names)
            finally:
                self.memory.forget(run_id)
        config = as_trace(run_config(run_id, context.depth, thread_id=run_id), run_id)
        run = Run(
            run_id=run_id,
            thread_id=run_id,
            conversation=turns(messages),
            settings=context.model_dump(mode="json"),
            policy=self.names["policy"],
            critic=self.names["critic"],
            reward_model=self.names["reward_model"],
            prompts=self.names["prompts"],
        )
        from tpo_graph.session.stored import run_stored

        async with self.store.leases.hold(run_id, new=run, launch=self.specs):
            graph_input = await self._start(run_id, messages, drafts)
            state = await run_stored(self.store, self.graph, graph_input, context, config, **told)
        return await read_result(state, self.store.cache, context, self.names)

    async def _start(
        self, run_id: str, messages: Sequence[BaseMessage], drafts: Drafts
    ) -> dict[str, Any]:
        """The input of a run that begins."""
        try:
            texts = await drafts() if callable(drafts) else drafts
        except NothingToImproveError:
            if self.store is not None:
                from tpo_graph.store.pruning import delete_run

                await delete_run(self.store, run_id)
            raise
        return {"messages": list(messages), **({"drafts": list(texts)} if texts else {})}


@asynccontextmanager
async def open_session(setup: Setup) -> AsyncGenerator[Session]:
    """Load the models, open the database if one is wanted, and build the graph.

    Raises:
        ConfigurationError: a name or a prompt set is wrong.
        StoreError: the database cannot be opened.
    """
    specs = setup.named()
    if options := stored_options(**{role: getattr(setup, role) for role in ROLES}):
        specs["options"] = options
    policy = load_chat_model(setup.model)
    critic = None if setup.critic is None else load_chat_model(setup.critic)
    judge = as_reward_model(setup.reward_model)
    prompts = setup.prompts if isinstance(setup.prompts, PromptSet) else load_prompts(setup.prompts)
    loaded = replace(setup, model=policy, critic=critic, reward_model=judge, prompts=prompts)
    names = {
        "policy": redacted(model_name(policy)),
        "critic": redacted(model_name(critic or policy)),
        "prompts": f"{prompts.name}@{prompts.digest}",
    }
    auditor = None if setup.audit is None else as_reward_model(setup.audit)
    if auditor is not None:
        specs |= {"auditor": redacted(auditor.name), "audit_fallback": setup.audit_fallback}
    memory = MemoryCache(max_runs=None)

    def built(store: "Store | None", judge: RewardModel) -> Session:
        setup = replace(loaded, reward_model=judge)
        return Session(
            setup=setup,
            graph=setup.graph(
                cache=memory if store is None else store.cache,
                checkpointer=None if store is None else store.checkpointer,
            ),
            store=store,
            memory=memory,
            policy=policy,
            judge=judge,
            prompts=prompts,
            names={**names, "reward_model": redacted(judge.name)},
            specs={**specs, "reuse_scores": store is None or store.cache.reuse_scores},
            auditor=auditor,
            scored_by=lambda other: built(store, other),
        )

    if setup.database is None:
        yield built(None, judge)
        return
    from tpo_graph.session.stored import opened  # SQLAlchemy and all: only where it is needed

    async with opened(setup.database, reuse_scores=setup.reuse_scores) as store:
        yield built(store, judge)
