"""Runs whose texts try everything, stored through the public API."""

from collections.abc import Sequence
from contextlib import suppress

from langchain_core.messages import BaseMessage

from tpo_graph import optimize
from tpo_graph.errors import PolicyError
from tpo_graph.testing import ScriptedChatModel, prefer_longer

SCRIPT = "<script>window.hacked = 1; alert(1)</script>"
NASTY = (
    f'{SCRIPT}</script></style></title><img src=x onerror="hacked=2">'
    "<!-- --><svg onload=alert(3)>&lt;b&gt; {{7*7}} ${x} `y`"
    '</div></details><base href="https://example.invalid/"><h1>Mine</h1>'
)
CONTROLS = (
    "nul\x00 escape\x1b[31mred\x1b[0m bell\x07 line\r\nend \U0001f600\U0001f468‍\U0001f469‍\U0001f467"
)
SHOWN_CONTROLS = "nul� escape␛[31mred␛[0m bell␇ line\nend \U0001f600\U0001f468‍\U0001f469‍\U0001f467"
ARABIC = "مرحبا بالعالم"
REORDERED = f"{ARABIC} \u202eexe.txt\u202c \u2066isolated\u2069"
LONG_WORD = "w" * 3_000
HUGE = "many words and then some more " * 8_000
"""240 KB, on one line."""


def _replies(messages: Sequence[BaseMessage], index: int) -> str:
    asked = "\n".join(message.text for message in messages)
    if "</improved_answer>" in messages[-1].text:
        chosen = asked.split("<chosen_answer>\n")[-1].split("\n</chosen_answer>")[0]
        return f"<improved_answer>{chosen} better {index}</improved_answer>"
    if "<chosen_answer>" in asked:
        return f"Critique {NASTY} {CONTROLS}"
    return [f"Plain {LONG_WORD}", f"{NASTY} {CONTROLS}", f"{REORDERED}\n{LONG_WORD}"][index % 3]


def _fails(messages: Sequence[BaseMessage], index: int) -> str:
    raise PolicyError(f"refused: {NASTY}")


def _store(database: str, query: str, run_id: str, reply: object, **settings: int) -> None:
    optimize(
        query,
        model=ScriptedChatModel(replies=reply),  # type: ignore[arg-type]
        reward_model=prefer_longer,
        database=database,
        run_id=run_id,
        **{"depth": 1, "width": 3, **settings},
    )


def store_runs(database: str, *, huge: bool = False) -> None:
    """Five runs; with `huge` three more, heavy enough to have all texts packed."""
    _store(database, f"Question {NASTY} {LONG_WORD}", "hostile", _replies, depth=2)
    _store(database, REORDERED, "arabic", [REORDERED, ARABIC], depth=0)
    _store(database, "Why is the sky blue?", "sky", _replies)
    _store(database, "Unchanged?", "unchanged", ["longest of all", "short"], depth=0)
    with suppress(PolicyError):
        _store(database, "Does this fail?", "failing", _fails)
    for number in range(3 if huge else 0):
        texts = [f"{HUGE}{number}", f"{HUGE} and {number}", "short"]
        _store(database, f"Huge {number}", f"huge-{number}", texts)
