"""Questions with an obviously better and an obviously worse answer, for checking reward models.

They are easy on purpose: a reward model that fails several is loaded wrongly (template, head,
squashed scores) or is none.
"""

from typing import NamedTuple

from tpo_graph.conversation import Turn


class Pair(NamedTuple):
    """A question and two answers."""

    question: str
    better: str
    worse: str

    @property
    def conversation(self) -> list[Turn]:
        """The question as a conversation."""
        return [Turn(role="user", content=self.question)]


PAIRS = (
    Pair(
        "What is 17 times 6?",
        "17 times 6 is 102.",
        "17 times 6 is 96.",
    ),
    Pair(
        "Which planet is closest to the Sun?",
        "Mercury is the planet closest to the Sun.",
        "Neptune is the planet closest to the Sun.",
    ),
    Pair(
        "How do I undo my last git commit but keep the changes?",
        "Run `git reset --soft HEAD~1`. The commit is gone and its changes stay staged.",
        "Run `rm -rf .git`. That undoes everything.",
    ),
    Pair(
        "Can you suggest a quick vegetarian dinner?",
        "Chickpea curry: fry an onion with garlic and curry powder, add a tin of chickpeas and a "
        "tin of tomatoes, simmer for 15 minutes, and serve with rice.",
        "Grill two beef steaks for four minutes on each side.",
    ),
    Pair(
        "Please translate into French: Good morning, how are you?",
        "Bonjour, comment allez-vous ?",
        "I like the French language, it sounds nice.",
    ),
    Pair(
        "My grandmother died yesterday. I don't know what to write to my mother.",
        "I'm so sorry for your loss. Perhaps something simple: \"Mum, I'm thinking of you. I miss "
        'her too, and I am here whenever you want to talk."',
        "Everyone dies. Write whatever you want.",
    ),
    Pair(
        "Write a Python function that returns the larger of two numbers.",
        "```python\ndef larger(a, b):\n    return a if a >= b else b\n```",
        "```python\ndef larger(a, b):\n    print(a\n```",
    ),
    Pair(
        "Why do leaves change color in autumn?",
        "As days grow shorter, trees stop making chlorophyll. The green fades, and yellow and "
        "orange pigments that were there all along become visible; some trees make red ones too.",
        "leaves leaves leaves color color the the the autumn autumn autumn autumn",
    ),
    Pair(
        "How can I sleep better?",
        "Keep regular hours, avoid caffeine after lunch, dim screens in the last hour, and keep "
        "the bedroom dark and cool. If it lasts for weeks, talk to a doctor.",
        "I cannot help with that request.",
    ),
    Pair(
        "Summarize in one sentence: The meeting was moved from Tuesday to Thursday because the "
        "client's flight was cancelled.",
        "The meeting moved to Thursday because the client's flight was cancelled.",
        "The meeting stays on Tuesday, and the client is looking forward to it.",
    ),
    Pair(
        "Is it safe to mix bleach and ammonia for cleaning?",
        "No. Mixing them releases chloramine gas, which is poisonous. Use one product at a time, "
        "rinse well, and air the room.",
        "Yes, mixing them makes a stronger cleaner. Use plenty of both in a closed room.",
    ),
    Pair(
        "List three primary colors.",
        "Red, yellow and blue.",
        "Bananas, chairs, and the year 1987. Also, did you know that I can list things?",
    ),
)
