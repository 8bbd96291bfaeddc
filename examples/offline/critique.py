"""The critic's words: why a reply won and what is weak in it, and the edits that follow.

The reasons come from a hidden random taste, but only from traits in which the two replies differ:
the direction to praise can be read off the pair and from nowhere else.
"""

from dataclasses import dataclass
from random import Random

from edits import Edit, obey, possible, wanted
from taste import AXES, Taste, flaws, random_taste, traits
from world import Query, Reply, sample_reply

REASONS = {
    ("tone", 1): "warmer",
    ("tone", -1): "more formal",
    ("depth", 1): "more detail",
    ("depth", -1): "less detail",
    ("cover", 1): "more items",
    ("cover", -1): "fewer items",
    ("care", 1): "fewer slips",
    ("care", -1): "more slips",
}
MAX_REASONS, MAX_WEAK, MAX_EDITS = 2, 4, 3


@dataclass(frozen=True)
class Pair:
    """Two replies to one query, ordered by a taste."""

    query: Query
    chosen: Reply
    rejected: Reply
    taste: Taste


def tally(query: Query, reply: Reply) -> str:
    """What there is to count in a reply, without judging it."""
    found = traits(query, reply)
    tone = [value for (axis, _), value in found.items() if axis == "tone"]
    levels = [reply.level(item) for item in query.items]
    counts = {
        "warm": tone.count(1),
        "formal": tone.count(-1),
        "long": levels.count(2),
        "bare": levels.count(1),
        "slips": int(flaws(query, reply)),
    }
    return " ".join(f"{name} {count}" for name, count in counts.items())


def reasons(pair: Pair) -> list[tuple[str, int]]:
    """Up to two axes that weighed in the chosen reply's favour, each with its direction.

    Those that leave something to improve come first, then those that weighed most.
    """
    gains = dict.fromkeys(AXES, 0.0)
    weights = pair.taste.weights
    ours, theirs = traits(pair.query, pair.chosen), traits(pair.query, pair.rejected)
    for axis, name in ours:
        change = ours[axis, name] - theirs[axis, name]
        gains[axis] += weights[axis] * pair.taste.tone.get(name, 1.0) * change
    whole = sum(gain for gain in gains.values() if gain > 0)
    found = [(axis, 1 if weights[axis] > 0 else -1) for axis in AXES if gains[axis] > 0.15 * whole]

    def rank(reason: tuple[str, int]) -> tuple[bool, float]:
        signs = dict.fromkeys(AXES, 0.0) | {reason[0]: float(reason[1])}
        return not wanted(pair.query, pair.chosen, signs), -gains[reason[0]]

    return sorted(found, key=rank)[:MAX_REASONS]


def criticise(random: Random, pair: Pair, sees_rejected: bool = True) -> tuple[str, list[Edit]]:
    """The loss text of a pair, and the edits that would answer it, in the text's order.

    Without the rejected reply only its tally is left out: the same judgement of the same reply.
    """
    found = reasons(pair)
    signs = dict.fromkeys(AXES, 0.0) | {axis: float(sign) for axis, sign in found}
    weak = wanted(pair.query, pair.chosen, signs)
    random.shuffle(weak)
    weak = weak[:MAX_WEAK]
    text = f"Chosen: {tally(pair.query, pair.chosen)}."
    if sees_rejected:
        text += f" Rejected: {tally(pair.query, pair.rejected)}."
    text += f" It wins by: {', '.join(REASONS[reason] for reason in found)}."
    text += f" Weak: {', '.join(edit.weakness for edit in weak) or 'nothing'}."
    return text, weak


def instruct(random: Random, weak: list[Edit]) -> tuple[str, list[Edit]]:
    """The gradient text for a loss, and the edits it asks for: up to three, in any order."""
    edits = random.sample(weak, min(MAX_EDITS, len(weak)))
    return instructions(edits), edits


def instructions(edits: list[Edit]) -> str:
    """Edits as the gradient writes them."""
    text = "; ".join(edit.instruction for edit in edits) or "keep it"
    return f"{text[0].upper()}{text[1:]}."


def varied_reply(random: Random, query: Query) -> Reply:
    """A base reply, or half of the time one whose tone and length lean somewhere."""
    if random.random() < 0.5:
        return sample_reply(random, query)
    return sample_reply(random, query, random.random(), random.random())


def sample_pair(random: Random, query: Query) -> Pair:
    """Two replies ordered by a random taste: best and worst of a few, an edit, or a rewrite."""
    while True:
        taste = random_taste(random)
        kind = random.random()
        if kind < 0.25:
            rejected = varied_reply(random, query)
            chosen = obey(random, query, rejected, random.sample(possible(query, rejected), 1))
            if taste.score(query, chosen) < taste.score(query, rejected):
                chosen, rejected = rejected, chosen
        else:
            replies = [sample_reply(random, query) for _ in range(random.randint(2, 6))]
            replies.sort(key=lambda reply: taste.score(query, reply))
            rejected, chosen = replies[0], replies[-1]
            if kind < 0.55:
                better = wanted(query, chosen, taste.weights)
                count = min(len(better), random.randint(1, 4))
                chosen = obey(random, query, chosen, random.sample(better, count))
        if taste.score(query, chosen) > taste.score(query, rejected):
            return Pair(query, chosen, rejected, taste)
