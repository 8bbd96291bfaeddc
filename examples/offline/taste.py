"""Tastes: what a reply scores under a signed and weighted preference over four axes.

`traits` measures a reply without judging it; a `Taste` weighs the measures. The two gold tastes,
`brief` (brief and formal) and `warm` (warm and thorough), pull tone and depth opposite ways and
agree that every asked item is named and nothing is wrong. Reward models learn gold and the study
measures it; the critic learns from `random_taste` alone.
"""

from dataclasses import dataclass, field
from random import Random

from world import Query, Reply, fill, read

AXES = ("tone", "depth", "cover", "care")
TONE = ("greet", "sorry", "thanks", "note", "end")


@dataclass(frozen=True)
class Taste:
    """Signed weights of the axes, and a factor for each trait of the tone axis (default 1)."""

    weights: dict[str, float]
    tone: dict[str, float] = field(default_factory=dict)

    def score(self, query: Query, reply: Reply | str) -> float:
        """The weighted sum of a reply's traits; a text is read first."""
        total = 0.0
        for (axis, name), value in traits(query, reply).items():
            total += self.weights[axis] * (self.tone.get(name, 1.0)) * value
        return total


GOLD = {
    "brief": Taste({"tone": -1.0, "depth": -1.0, "cover": 1.0, "care": 1.5}),
    "warm": Taste({"tone": 1.0, "depth": 1.0, "cover": 1.0, "care": 1.5}),
}


def traits(query: Query, reply: Reply | str) -> dict[tuple[str, str], float]:
    """The measures of a reply, by axis and name.

    Tone is +1 where warm, -1 where formal; depth +1 for a detailed item, -1 for a bare one; cover
    +1 for an asked item that is there, -1 for one that is not; care -1 for each wrong thing.
    """
    if isinstance(reply, str):
        reply = read(reply)
    right = {slot.kind for slot in reply.slots if slot.about == fill(slot.kind, query, slot.about)}
    found: dict[tuple[str, str], float] = {
        ("tone", "greet"): ("greet_warm" in right) - ("greet_formal" in right),
        ("tone", "sorry"): 1 if "sorry" in right else -1,
        ("tone", "thanks"): 1 if "thanks" in right else -1,
        ("tone", "note"): -1 if "note" in right else 1,
        ("tone", "end"): ("end_warm" in right) - ("end_formal" in right),
    }
    for item in query.items:
        level = reply.level(item)
        found["depth", item] = (0, -1, 1)[level]
        found["cover", item] = 1 if level else -1
    found["care", "flaws"] = -flaws(query, reply)
    return found


def flaws(query: Query, reply: Reply) -> float:
    """How much is wrong: names, topics or items, what is said twice, words that do not read."""
    wrong = repeated = 0
    seen: set[str] = set()
    for slot in reply.slots:
        key = slot.about if slot.kind in ("named", "detailed") else slot.kind.split("_")[0]
        repeated += key in seen
        seen.add(key)
        if slot.kind in ("named", "detailed"):
            wrong += slot.about not in query.items
        else:
            wrong += slot.about != fill(slot.kind, query)
    return wrong + repeated + min(reply.junk / 4, 3.0)


def random_taste(random: Random) -> Taste:
    """A taste with a random sign and weight on each axis; some axes do not matter at all."""
    weights = {
        axis: 0.0 if random.random() < 0.15 else random.choice((-1, 1)) * random.uniform(0.4, 1.6)
        for axis in AXES
    }
    return Taste(weights, {name: random.uniform(0.4, 1.6) for name in TONE})
