"""Training examples for the policy, and preference pairs for the reward models.

The prompts are those of `prompts/` and `prompts-revision/`, rendered as tpo_graph renders them.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import yaml
from critique import criticise, instruct, instructions, sample_pair, varied_reply
from edits import Edit, obey, possible, random_edit, wanted
from taste import GOLD, Taste, flaws
from world import Query, Reply, read, sample_query, sample_reply, write

HERE = Path(__file__).parent
# share of each kind of call among the policy's examples
CALLS = {"answer": 0.12, "loss": 0.38, "revision": 0.14, "gradient": 0.08, "update": 0.28}


def template(folder: str, stage: str) -> str:
    """The user text of one prompt file."""
    return yaml.safe_load((HERE / folder / f"{stage}.yaml").read_text())["user"]


TEMPLATES = {
    "loss": template("prompts", "loss"),
    "revision": template("prompts-revision", "loss"),
    "gradient": template("prompts", "gradient"),
    "update": template("prompts", "update"),
}


def policy_examples(seed: int) -> Iterator[tuple[str, str]]:
    """An endless stream of (user message, reply) over all calls, on training queries only."""
    random = Random(seed)
    while True:
        call = random.choices(list(CALLS), list(CALLS.values()))[0]
        query = sample_query(random)
        yield policy_example(random, call, query)


def policy_example(random: Random, call: str, query: Query) -> tuple[str, str]:
    """One example of a call; `revision` is a loss that does not see the rejected reply."""
    if call == "answer":
        return query.text, write(sample_reply(random, query))
    if call == "update":
        return _update(random, query)
    pair = sample_pair(random, query)
    sees_rejected = call == "loss" or (call == "gradient" and random.random() < 0.7)
    loss, weak = criticise(random, pair, sees_rejected)
    if call == "gradient":
        return TEMPLATES[call].format(loss=loss), instruct(random, weak)[0]
    chosen, rejected = write(pair.chosen), write(pair.rejected)
    return TEMPLATES[call].format(query=query.text, chosen=chosen, rejected=rejected), loss


def _update(random: Random, query: Query) -> tuple[str, str]:
    """Instructions obeyed on any reply: a third of them are about something else altogether.

    Nothing is preferred: edits go in every direction. A few are missed and a few sentences are
    reworded, without which the samples of one update would all be the same.
    """
    reply = varied_reply(random, query)
    count = random.choice((0, 1, 2, 3, 3, 3))
    if random.random() < 0.33:
        edits = [random_edit(random, query) for _ in range(count)]
    elif random.random() < 0.5:
        edits = _sample(random, possible(query, reply), count)
    else:
        signs = {axis: random.choice((-1, 0, 1)) for axis in ("tone", "depth", "cover", "care")}
        edits = _sample(random, wanted(query, reply, signs), count)
    done = [edit for edit in edits if random.random() > 0.05]
    if random.random() < 0.1:
        done += _sample(random, possible(query, reply), 1)
    edited = reword(random, obey(random, query, reply, done))
    user = TEMPLATES["update"].format(
        query=query.text, chosen=write(reply), gradient=instructions(edits)
    )
    return user, f"<reply>{write(edited)}</reply>"


def _sample(random: Random, edits: list[Edit], count: int) -> list[Edit]:
    return random.sample(edits, min(count, len(edits)))


def reword(random: Random, reply: Reply, share: float = 0.1) -> Reply:
    """The reply with a share of its sentences said in their other wording."""
    slots = [
        replace(slot, wording=1 - slot.wording) if random.random() < share else slot
        for slot in reply.slots
    ]
    return replace(reply, slots=tuple(slots))


def preference_pairs(
    seed: int, taste: str, minimal: float = 0.6, slips: bool = True
) -> Iterator[tuple[str, str, str]]:
    """An endless stream of (query, better reply, worse reply) under one gold taste.

    Args:
        minimal: share of pairs that differ by a single edit.
        slips: whether replies may hold anything wrong. A reward model that never saw a wrong name
            or an item said twice does not mind them, and a policy may find that gap.
    """
    random = Random(seed)
    gold = GOLD[taste]
    while True:
        query = sample_query(random)
        first = _candidate(random, query, gold)
        if random.random() < minimal:
            second = _one_change(random, query, first)
        else:
            second = write(_candidate(random, query, gold))
        if not slips and (flaws(query, first) or flaws(query, read(second))):
            continue
        texts = sorted((write(first), second), key=lambda text: gold.score(query, text))
        if gold.score(query, texts[0]) < gold.score(query, texts[1]):
            yield query.text, texts[1], texts[0]


def _candidate(random: Random, query: Query, gold: Taste) -> Reply:
    """A reply of any quality: half of them on the way to what a taste wants."""
    reply = varied_reply(random, query)
    if random.random() < 0.5:
        better = wanted(query, reply, gold.weights)
        reply = obey(random, query, reply, _sample(random, better, random.randint(1, 8)))
    return reply


def _one_change(random: Random, query: Query, reply: Reply) -> str:
    """The text of a reply after one edit, right or wrong for its query, or with words spoiled."""
    kind = random.random()
    if kind < 0.1:
        words = write(reply).split() or ["so"]
        at = random.randrange(len(words))
        words[at : at + random.randint(0, 2)] = random.choices(words, k=random.randint(0, 2))
        return " ".join(words)
    edit = random_edit(random, query) if kind < 0.4 else random.choice(possible(query, reply))
    return write(obey(random, query, reply, [edit]))
