"""The micro world: short replies of a help desk, as structure (`Query`, `Reply`) and as text.

`write` turns a reply into text and `read` turns any text back into a reply, so a gold preference
can judge what a model really wrote. Nothing here prefers anything: tastes live in `taste.py`.
"""

import re
from dataclasses import dataclass, field, replace
from itertools import combinations
from random import Random
from zlib import crc32

FIRST = re.findall(
    r"\w+", "Ann Bob Cara Dan Eve Finn Gus Hana Ian Joy Kit Lea Max Nia Otis Pia Quin Rosa Sam Tess"
)
LAST = re.findall(
    r"\w+", "Abel Bose Cole Dunn Egan Ford Gray Hall Ives Jain Kerr Lund Marsh Novak Ortiz Pope"
)
DESKS = {
    "late parcel": "shipping",
    "broken box": "repair",
    "wrong size": "exchange",
    "double charge": "billing",
    "lost invoice": "records",
    "missing part": "spares",
    "slow refund": "payments",
    "locked account": "access",
}
TOPICS = list(DESKS)
DETAILS = {
    "lamp": "with a new bulb",
    "mug": "wrapped in paper",
    "rug": "rolled and taped",
    "chair": "with all four legs",
    "clock": "set to your time",
    "desk": "in two boxes",
    "shelf": "with its screws",
    "kettle": "tested for leaks",
    "mirror": "padded with foam",
    "pillow": "washed and dried",
    "radio": "with fresh batteries",
    "vase": "packed in straw",
}
ITEMS = list(DETAILS)

ASK = (
    "I am {full}. I have a {topic}. What about the {items}?",
    "This is {full}. There is a {topic}. Please help with the {items}.",
)
WORDINGS = {
    "greet_formal": ("Dear {full},", "To {full}:"),
    "greet_warm": ("Hi {first}!", "Hello dear {first}!"),
    "sorry": ("I am so sorry about the {topic}.", "We feel bad about the {topic}."),
    "note": ("The {topic} is on file.", "The {topic} has been recorded."),
    "thanks": ("Thank you for your patience, {first}.", "You have been so kind, {first}."),
    "end_formal": ("Regards, the {desk} desk.", "Yours faithfully, the {desk} office."),
    "end_warm": ("Take good care, {first}!", "All the best to you, {first}!"),
    "named": ("The {item} ships today.", "The {item} is on its way."),
    "detailed": ("The {item} ships today, {detail}.", "The {item} is on its way, {detail}."),
}


@dataclass(frozen=True)
class Query:
    """Who writes, about what, and the items that a reply should speak of, in order."""

    first: str
    last: str
    topic: str
    items: tuple[str, ...]
    wording: int = 0

    @property
    def text(self) -> str:
        """The message that the person sends."""
        listed = ", the ".join(self.items[:-1]) + " and the " + self.items[-1]
        return ASK[self.wording].format(
            full=f"{self.first} {self.last}", topic=self.topic, items=listed
        )

    @property
    def held_out(self) -> bool:
        """Whether this topic and item set is kept from every training example (10% are)."""
        return crc32(f"{self.topic}|{'|'.join(sorted(self.items))}".encode()) % 10 == 0


@dataclass(frozen=True)
class Slot:
    """One sentence: its kind (a key of WORDINGS), what it speaks of, and which wording it uses.

    `about` is the first or full name, the topic, the desk or the item that fills the sentence.
    """

    kind: str
    about: str
    wording: int = 0

    @property
    def text(self) -> str:
        """The sentence."""
        words = dict.fromkeys(("full", "first", "topic", "desk", "item"), self.about)
        detail = DETAILS.get(self.about, "")
        return WORDINGS[self.kind][self.wording].format(**words, detail=detail)


@dataclass(frozen=True)
class Reply:
    """Sentences in order, and how many words could not be read (0 for a written reply)."""

    slots: tuple[Slot, ...] = field(default=())
    junk: int = 0

    def find(self, *kinds: str) -> list[Slot]:
        """The sentences of these kinds, in order."""
        return [slot for slot in self.slots if slot.kind in kinds]

    def level(self, item: str) -> int:
        """0 when the item is absent, 1 when it is named, 2 when it is detailed."""
        kinds = {slot.kind for slot in self.slots if slot.about == item}
        return 2 if "detailed" in kinds else 1 if "named" in kinds else 0

    def without(self, *kinds: str) -> "Reply":
        """The same reply without the sentences of these kinds."""
        return replace(self, slots=tuple(s for s in self.slots if s.kind not in kinds))


def order(slot: Slot, items: tuple[str, ...]) -> tuple[int, int]:
    """Where a sentence belongs: greeting, sorry, items as asked, note, thanks, ending."""
    if slot.kind in ("named", "detailed"):
        return 2, items.index(slot.about) if slot.about in items else len(items)
    ranks = {"sorry": 1, "note": 3, "thanks": 4}
    return ranks.get(slot.kind, 0 if slot.kind.startswith("greet") else 5), 0


def arrange(slots: list[Slot], query: Query) -> Reply:
    """A reply with its sentences in their usual order (the sort is stable, so repeats stay)."""
    return Reply(tuple(sorted(slots, key=lambda slot: order(slot, query.items))))


def write(reply: Reply) -> str:
    """The text of a reply."""
    return " ".join(slot.text for slot in reply.slots)


def _pattern(kind: str, wording: int) -> str:
    """A regular expression for one wording, the part that varies in a group named by its place."""
    text = re.escape(WORDINGS[kind][wording])
    names = "|".join(FIRST)
    fills = {
        "full": f"(?:{names}) (?:{'|'.join(LAST)})",
        "first": names,
        "topic": "|".join(TOPICS),
        "desk": "|".join(DESKS.values()),
        "item": "|".join(ITEMS),
    }
    for place, choices in fills.items():
        text = text.replace(re.escape("{" + place + "}"), f"(?P<{kind}_{wording}>{choices})")
    return text.replace(re.escape("{detail}"), f"(?:{'|'.join(DETAILS.values())})")


_SENTENCE = re.compile("|".join(_pattern(kind, n) for kind in WORDINGS for n in (0, 1)))


def read(text: str) -> Reply:
    """What a text says: the sentences the world knows, and the number of words that are none.

    A detail that belongs to another item makes its whole sentence unreadable.
    """
    slots: list[Slot] = []
    rest: list[str] = []
    end = 0
    for match in _SENTENCE.finditer(text):
        name = match.lastgroup or ""
        slot = Slot(name[:-2], match[name], int(name[-1]))
        rest.append(text[end : match.start()])
        end = match.end()
        if slot.text == match[0]:
            slots.append(slot)
        else:
            rest.append(match[0])
    rest.append(text[end:])
    return Reply(tuple(slots), len(" ".join(rest).split()))


def sample_query(random: Random, held_out: bool = False) -> Query:
    """A random query from the training combinations, or from the held-out ones."""
    while True:
        items = random.sample(ITEMS, random.choice((3, 4)))
        first, last, topic = random.choice(FIRST), random.choice(LAST), random.choice(TOPICS)
        query = Query(first, last, topic, tuple(items), random.randrange(2))
        if query.held_out == held_out:
            return query


def other(random: Random, choices: list[str], *avoid: str) -> str:
    """One of the choices that is none of those to avoid."""
    return random.choice([choice for choice in choices if choice not in avoid])


def fill(kind: str, query: Query, item: str = "") -> str:
    """What a sentence of this kind speaks of when it is right for the query."""
    if kind in ("named", "detailed"):
        return item
    fills = {"greet_formal": f"{query.first} {query.last}", "end_formal": DESKS[query.topic]}
    return fills.get(kind, query.topic if kind in ("sorry", "note") else query.first)


def sample_reply(random: Random, query: Query, warm: float = 0.5, more: float = 0.5) -> Reply:
    """A reply as an untuned writer would give it: every choice is a coin, and some are flawed.

    Args:
        warm: chance of each warm choice against its formal or silent counterpart.
        more: chance that an asked item is named, and that a named one is detailed.
    """
    kinds = [
        f"{place}_{'warm' if random.random() < warm else 'formal'}"
        for place in ("greet", "end")
        if random.random() < 0.85
    ]
    kinds += [kind for kind in ("sorry", "thanks") if random.random() < warm]
    if random.random() > warm:
        kinds.append("note")
    slots = [Slot(kind, fill(kind, query), random.randrange(2)) for kind in kinds]
    slots += [
        Slot("detailed" if random.random() < more else "named", item)
        for item in query.items
        if random.random() < 0.4 + 0.6 * more
    ]
    slots = [replace(slot, wording=random.randrange(2)) for slot in slots]
    return arrange(_flaw(random, slots, query), query)


def _flaw(random: Random, slots: list[Slot], query: Query) -> list[Slot]:
    """The sentences with a wrong name or topic, an item nobody asked for, or one said twice."""
    flawed: list[Slot] = []
    for slot in slots:
        wrong = slot
        if random.random() < 0.05:
            if slot.kind == "greet_warm":
                wrong = replace(slot, about=other(random, FIRST, query.first))
            elif slot.kind == "greet_formal":
                name = f"{other(random, FIRST, query.first)} {random.choice(LAST)}"
                wrong = replace(slot, about=name)
            elif slot.kind in ("sorry", "note"):
                wrong = replace(slot, about=other(random, TOPICS, query.topic))
            elif slot.kind in ("named", "detailed"):
                flawed.append(replace(slot, wording=random.randrange(2)))
        flawed.append(wrong)
    if random.random() < 0.12:
        kind = random.choice(("named", "detailed"))
        flawed.append(Slot(kind, other(random, ITEMS, *query.items), random.randrange(2)))
    return flawed


def combination_count() -> int:
    """How many topic and item-set combinations the world has."""
    return len(TOPICS) * sum(len(list(combinations(ITEMS, k))) for k in (3, 4))
