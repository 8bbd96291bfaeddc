"""Edit instructions: what the gradient says and the update obeys, additions and removals alike.

An `Edit` names the very thing it is about (a name, a topic, an item), so it fits only the reply it
was made for: removing what is not there changes nothing, and an addition is obeyed to the letter.
"""

from dataclasses import dataclass, replace
from random import Random

from world import FIRST, ITEMS, TOPICS, Query, Reply, Slot, arrange, fill

# kind of edit: (instruction, what the critic says is wrong, the axis it serves, the sign it serves)
EDITS = {
    "greet_warm": ("greet {0} warmly", "cold hello to {0}", "tone", 1),
    "greet_formal": ("greet {0} formally", "loose hello to {0}", "tone", -1),
    "sorry": ("say sorry for the {0}", "no sorry for the {0}", "tone", 1),
    "drop_sorry": ("drop the sorry for the {0}", "a sorry for the {0}", "tone", -1),
    "thanks": ("thank {0}", "no thanks to {0}", "tone", 1),
    "drop_thanks": ("drop the thanks to {0}", "thanks to {0}", "tone", -1),
    "note": ("file the {0}", "no file on the {0}", "tone", -1),
    "drop_note": ("drop the file on the {0}", "a file on the {0}", "tone", 1),
    "end_warm": ("end warmly for {0}", "cold end for {0}", "tone", 1),
    "end_formal": ("sign for {0}", "no sign for {0}", "tone", -1),
    "detail": ("explain the {0}", "bare {0}", "depth", 1),
    "shorten": ("shorten the {0}", "long {0}", "depth", -1),
    "add": ("add the {0}", "no {0}", "cover", 1),
    "cut": ("cut the {0}", "needless {0}", "cover", -1),
    "remove": ("remove the {0}", "wrong {0}", "care", 1),
    "once": ("say the {0} once", "double {0}", "care", 1),
}
ITEM_EDITS = ("detail", "shorten", "add", "cut", "remove", "once")


@dataclass(frozen=True)
class Edit:
    """One instruction: its kind (a key of EDITS) and the thing it names."""

    kind: str
    about: str

    @property
    def instruction(self) -> str:
        """What the gradient asks for."""
        return EDITS[self.kind][0].format(self.about)

    @property
    def weakness(self) -> str:
        """What the loss says is wrong."""
        return EDITS[self.kind][1].format(self.about)

    @property
    def serves(self) -> tuple[str, int]:
        """The axis that the edit moves, and in which direction."""
        return EDITS[self.kind][2], EDITS[self.kind][3]


def possible(query: Query, reply: Reply) -> list[Edit]:
    """Every edit that would change this reply towards something right for its query."""
    edits: list[Edit] = []
    for kind in ("greet_warm", "greet_formal", "end_warm", "end_formal", "sorry", "thanks", "note"):
        right = fill(kind, query)
        if not any(slot.about == right for slot in reply.find(kind)):
            edits.append(Edit(kind, right))
    for kind in ("sorry", "thanks", "note"):
        edits += [Edit(f"drop_{kind}", slot.about) for slot in reply.find(kind)]
    for item in query.items:
        level = reply.level(item)
        edits += [Edit("add", item)] if level == 0 else [Edit("cut", item)]
        edits.append(Edit("shorten", item) if level == 2 else Edit("detail", item))
    spoken = [slot.about for slot in reply.find("named", "detailed")]
    for item in dict.fromkeys(spoken):
        if item not in query.items:
            edits.append(Edit("remove", item))
        if spoken.count(item) > 1:
            edits.append(Edit("once", item))
    return edits


def wanted(query: Query, reply: Reply, weights: dict[str, float]) -> list[Edit]:
    """The possible edits in the direction of these weights of axes; 0 leaves an axis alone."""
    found: list[Edit] = []
    for edit in possible(query, reply):
        axis, sign = edit.serves
        absent = axis == "depth" and reply.level(edit.about) == 0
        if weights[axis] * sign > 0 and not (absent and weights["cover"] < 0):
            found.append(edit)
    if weights["care"] > 0:
        # a sentence about the wrong name or topic is said again about the right one
        said = [slot for slot in reply.slots if slot.kind not in ("named", "detailed")]
        fixes = [Edit(s.kind, fill(s.kind, query)) for s in said if s.about != fill(s.kind, query)]
        found += [edit for edit in fixes if edit not in found]
    return found


def random_edit(random: Random, query: Query) -> Edit:
    """Any edit at all, often about a name, topic or item that is not the query's."""
    kind = random.choice(list(EDITS))
    if kind in ITEM_EDITS:
        return Edit(kind, random.choice(ITEMS))
    stranger = replace(query, first=random.choice(FIRST), topic=random.choice(TOPICS))
    return Edit(kind, fill(kind.removeprefix("drop_"), stranger))


def apply(random: Random, query: Query, reply: Reply, edit: Edit) -> Reply:
    """The reply after one edit, obeyed to the letter."""
    kind, about, slots = edit.kind, edit.about, list(reply.slots)
    new = random.randrange(2)
    if kind in ("greet_warm", "greet_formal", "end_warm", "end_formal"):
        place = kind.split("_")[0]
        slots = [slot for slot in slots if not slot.kind.startswith(place)]
        slots.append(Slot(kind, about, new))
    elif kind in ("sorry", "thanks", "note"):
        slots = [slot for slot in slots if slot.kind != kind] + [Slot(kind, about, new)]
    elif kind.startswith("drop_"):
        gone = kind.removeprefix("drop_")
        slots = [slot for slot in slots if (slot.kind, slot.about) != (gone, about)]
    elif kind in ("detail", "shorten"):
        level = "detailed" if kind == "detail" else "named"
        spoken = any(slot.about == about for slot in slots)
        slots = [replace(s, kind=level) if s.about == about else s for s in slots]
        if kind == "detail" and not spoken:
            slots.append(Slot("detailed", about, new))
    elif kind == "add":
        if not any(slot.about == about for slot in slots):
            slots.append(Slot("named", about, new))
    elif kind in ("cut", "remove"):
        slots = [slot for slot in slots if slot.about != about]
    else:
        first = next((slot for slot in slots if slot.about == about), None)
        slots = [slot for slot in slots if slot.about != about or slot is first]
    return arrange(slots, query)


def obey(random: Random, query: Query, reply: Reply, edits: list[Edit]) -> Reply:
    """The reply after every edit in turn."""
    for edit in edits:
        reply = apply(random, query, reply, edit)
    return reply
