"""`ChatRuled`: the tiny policy, and a rule for each call that it was never trained to answer.

The policy answers, criticises and edits. Joining several replies, copying what they share and
writing around it are calls of other methods: here they are done by rules that know the world's
sentences and no taste, and are charged by the policy's tokenizer. What the rules do:

- join: every part of the reply (greeting, each item, ending, ...) is that of one of the replies
  shown, drawn at random, so that a part that one lacks may be lacking
- keep: the parts that most of the replies shown agree about, word for word
- write anew: the kept parts, and the rest as an untuned writer would write it
- any edits: up to three random edits that would change the reply towards something right
"""

import re
from functools import lru_cache
from random import Random
from typing import Any

from batched import ChatBatched, engine
from critique import MAX_EDITS, instructions
from edits import possible
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field
from world import Query, Reply, Slot, arrange, read, sample_reply, write

from tpo_graph.usage import no_usage, spend

_RULED = re.compile(
    r"Query: (?P<query>.*?)\n(?:Replies: (?P<replies>.*)|Kept: (?P<kept>.*)|Reply: (?P<reply>.*))\n"
    r"(?P<ask>Join them\.|What to keep\?|Write anew\.|Any edits\?)",
    re.DOTALL,
)
_ANSWER = re.compile(r"<answer_\d+>\n(.*?)\n</answer_\d+>", re.DOTALL)

_read = lru_cache(maxsize=100_000)(read)
Parts = dict[str, list[Slot]]


def parts(reply: Reply) -> Parts:
    """The sentences by the part of a reply that they are: greeting, ending, each item, ..."""
    found: Parts = {}
    for slot in reply.slots:
        item = slot.kind in ("named", "detailed")
        found.setdefault(slot.about if item else slot.kind.split("_")[0], []).append(slot)
    return found


def join(random: Random, query: Query, replies: list[Reply]) -> Reply:
    """Every part of one of the replies, drawn at random."""
    each = [parts(reply) for reply in replies]
    names = sorted({name for found in each for name in found})
    slots = [slot for name in names for slot in random.choice(each).get(name, [])]
    return arrange(slots, query)


def shared(query: Query, replies: list[Reply]) -> Reply:
    """The parts of the first about which most of the replies say the same kind of thing."""
    each = [parts(reply) for reply in replies]
    kept: list[Slot] = []
    for name, slots in each[0].items():
        kinds = [slot.kind for slot in slots]
        agree = sum([slot.kind for slot in found.get(name, [])] == kinds for found in each)
        kept += slots if 2 * agree > len(each) else []
    return arrange(kept, query)


def anew(random: Random, query: Query, kept: Reply) -> Reply:
    """The kept parts, the others of a new reply."""
    fresh = parts(sample_reply(random, query)) | parts(kept)
    return arrange([slot for slots in fresh.values() for slot in slots], query)


class ChatRuled(ChatBatched):
    """See the module."""

    queries: dict[str, Any] = Field(default_factory=dict)
    """Text -> `Query`: what the rules know about a query, they know from here."""

    async def _agenerate(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> ChatResult:
        prompt = messages[-1].text
        asked = _RULED.fullmatch(prompt)
        if asked is None:
            return await super()._agenerate(messages, *args, **kwargs)
        texts = [self._by_rule(asked, Random(f"{self.seed}/{i}/{prompt}")) for i in range(self.n)]
        count = engine(self.path).tokenizer
        return ChatResult(
            generations=[ChatGeneration(message=AIMessage(text)) for text in texts],
            llm_output={
                "token_usage": {
                    "prompt_tokens": len(count(prompt)["input_ids"]),
                    "completion_tokens": sum(len(count(text)["input_ids"]) for text in texts),
                }
            },
        )

    def _by_rule(self, asked: re.Match[str], random: Random) -> str:
        query: Query = self.queries[asked["query"]]
        replies = [_read(text) for text in _ANSWER.findall(asked["replies"] or "")]
        if asked["ask"] == "Any edits?":
            edits = possible(query, read(asked["reply"]))
            return instructions(random.sample(edits, min(MAX_EDITS, len(edits))))
        if asked["ask"] == "What to keep?":
            return write(shared(query, replies)) or "-"
        if asked["ask"] == "Write anew.":
            return f"<reply>{write(anew(random, query, read(asked['kept'])))}</reply>"
        return f"<reply>{write(join(random, query, replies))}</reply>"


class NoisyJudge:
    """Compares two replies by gold plus noise: a judge that errs, for the knockout.

    The tiny policy cannot compare. A row with this judge shows what one of this quality adds.

    Args:
        score: gold of a query and a text.
        queries: text -> query.
        path: of the policy, whose tokenizer counts what the comparisons would have cost.
        noise: standard deviation of what is added to the difference.
    """

    def __init__(self, score: Any, queries: dict[str, Query], path: str, noise: float = 3.0):
        self._score, self._queries, self._path, self._noise = score, queries, path, noise
        self.right = self.asked = 0

    async def compare(self, conversation: Any, first: str, second: str) -> float:
        """Above 0 where the first is judged better."""
        query = self._queries[conversation[-1]["content"]]
        gold = self._score(query, first) - self._score(query, second)
        said = gold + Random(f"{query.text}/{first}/{second}").gauss(0, self._noise)
        if gold:
            self.asked += 1
            self.right += said * gold > 0
        count = engine(self._path).tokenizer
        tokens = len(count(query.text + first + second)["input_ids"])
        spend({**no_usage(), "requests": 2, "prompt_tokens": 2 * tokens, "completion_tokens": 2})
        return said
