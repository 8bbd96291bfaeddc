"""Checks of policy and critic: does the model do what the loop needs of it?

The paper's Figure 7: a model that does not follow instructions well gets worse by TPO, not better.
"""

from collections.abc import AsyncIterator

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, HumanMessage

from tpo_graph.check.critiques import CRITIQUES, Critique
from tpo_graph.check.finding import Finding, Status
from tpo_graph.context import RunOptions
from tpo_graph.errors import TPOError
from tpo_graph.models import Generated, generate, load_chat_model, model_name
from tpo_graph.prompts import PromptSet, Stage

_REWRITES = 2
"""Rewritten answers per critique."""
_QUESTION = "In one or two sentences: what makes a good neighbor?"


async def check_policy(
    model: str | BaseChatModel,
    critic: str | BaseChatModel | None,
    prompts: PromptSet,
    options: RunOptions,
) -> AsyncIterator[Finding]:
    """Findings about the policy, and about the critic in its two calls, as they are made."""
    try:
        policy = load_chat_model(model)
        asked = await generate(
            policy, [HumanMessage(_QUESTION)], options.width, options.response_sampling(0)
        )
    except TPOError as error:
        yield _finding("answers", "fail", str(error))
        return
    yield _answers(policy, asked, options.width)
    if not asked.texts:
        return
    if options.width > 1:
        yield _honours_n(asked, options.width)
        yield _samples_differ(asked)
    yield _returns_usage(asked)
    try:
        writer = policy if critic is None else load_chat_model(critic)
        yield await _critic(writer, prompts, options)
        for finding in await _rewrites(policy, prompts, options):
            yield finding
    except TPOError as error:
        yield _finding("works in the loop", "fail", str(error))


def _answers(policy: BaseChatModel, asked: Generated, width: int) -> Finding:
    usable = len(asked.texts)
    seen = f"{model_name(policy)}: {usable} of {width} samples are usable"
    if usable < width:
        status: Status = "warn" if usable else "fail"
        return _finding(
            "answers", status, f"{seen}; raise max_tokens if it thinks before it writes"
        )
    if asked.usage["truncated"]:
        return _finding("answers", "warn", f"{seen}, but cut off: raise max_tokens")
    return _finding("answers", "ok", seen)


def _honours_n(asked: Generated, width: int) -> Finding:
    requests = asked.usage["requests"]
    if requests == 1:
        return _finding("honours n", "ok", f"{width} samples from one request")
    detail = f"{width} samples took {requests} requests, and each pays for the prompt"
    return _finding("honours n", "warn", detail)


def _samples_differ(asked: Generated) -> Finding:
    different, all_of_them = len(set(asked.texts)), len(asked.texts)
    if different == 1 < all_of_them:
        detail = f"all {all_of_them} are the same text: raise temperature, or turn a cache off"
        return _finding("samples differ", "fail", detail)
    return _finding("samples differ", "ok", f"{different} different texts of {all_of_them}")


def _returns_usage(asked: Generated) -> Finding:
    read, written = asked.usage["prompt_tokens"], asked.usage["completion_tokens"]
    if read and written:
        return _finding("returns usage", "ok", f"{read} prompt and {written} completion tokens")
    detail = "token counts are missing: token budgets and cost reports will not work"
    return _finding("returns usage", "warn", detail)


async def _critic(critic: BaseChatModel, prompts: PromptSet, options: RunOptions) -> Finding:
    task = CRITIQUES[0]
    lengths: list[str] = []
    for stage in ("loss", "gradient"):
        generated = await generate(
            critic,
            _rendered(prompts, stage, task),
            1,
            options.critic_sampling(0, stage),
            tag=getattr(prompts, stage).output_tag,
            stage=stage,
        )
        if not generated.texts:
            detail = f"{model_name(critic)} gave no usable {stage}, twice: raise critic_max_tokens"
            return _finding("writes critiques", "fail", detail)
        lengths.append(f"{stage} of {len(generated.texts[0].split())} words")
    return _finding("writes critiques", "ok", ", ".join(lengths))


async def _rewrites(
    policy: BaseChatModel, prompts: PromptSet, options: RunOptions
) -> list[Finding]:
    tag = prompts.update.output_tag
    asked = unusable = usable = followed = 0
    for number, task in enumerate(CRITIQUES):
        generated = await generate(
            policy,
            _rendered(prompts, "update", task),
            _REWRITES,
            options.response_sampling(number + 1),
            tag=tag,
            stage="update",
        )
        unusable += generated.usage["unusable"]
        asked += generated.usage["unusable"] + len(generated.texts)
        usable += len(generated.texts)
        followed += sum(task.followed(text) for text in generated.texts)
    wanted = _REWRITES * len(CRITIQUES)
    return [_keeps_tags(tag, asked, unusable), _follows(followed, usable, wanted)]


def _keeps_tags(tag: str | None, asked: int, unusable: int) -> Finding:
    if tag is None:
        return _finding("keeps the tags", "skip", "the prompt set asks for none")
    detail = f"{asked - unusable} of {asked} rewrites stood in <{tag}>"
    if not unusable:
        return _finding("keeps the tags", "ok", detail)
    if 2 * unusable <= asked:
        return _finding("keeps the tags", "warn", f"{detail}; the others are paid for and lost")
    return _finding("keeps the tags", "fail", f"{detail}: use a model that follows instructions")


def _follows(followed: int, usable: int, wanted: int) -> Finding:
    detail = f"{followed} of {usable} rewrites did what the critique asked for"
    if 3 * followed >= 2 * wanted:
        return _finding("follows a critique", "ok", detail)
    status: Status = "warn" if 3 * followed >= wanted else "fail"
    weak = "such models gain little from TPO, or get worse (paper, Figure 7)"
    return _finding("follows a critique", status, f"{detail}; {weak}")


def _rendered(prompts: PromptSet, stage: Stage, task: Critique) -> list[BaseMessage]:
    values = {
        "query": task.query,
        "conversation": task.query,
        "chosen": task.chosen,
        "rejected": task.rejected,
        "criteria": "",
    }
    values |= {"loss": task.loss, "gradient": task.gradient}
    return prompts.render(stage, values).messages()


def _finding(name: str, status: Status, detail: str) -> Finding:
    return Finding("policy", name, status, detail)
