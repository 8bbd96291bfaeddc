"""Whether a reward server scores as the same weights in the process do: the largest difference.

    vllm serve FOLDER --runner pooling --dtype float32 --port 8000
    python -m benchmarks.real rewards --local local:FOLDER --server "vllm:http://localhost:8000#NAME"

Scores differ where the server builds other text from a conversation than the model's own template
does, or cuts elsewhere: the texts here try both.
"""

import asyncio

from tpo_graph.conversation import Turn
from tpo_graph.rewards import load_reward_model

_ANSWERS = (
    "Yes.",
    "Bread rises because yeast makes gas.",
    "It rises. It rises! Does it rise? It does.",
    "1. flour\n2. water\n3. salt\n\n```python\nprint('bread')\n```",
    "Teig geht auf, weil Hefe Gas bildet. 面团会发酵。 🍞",
    "  leading and trailing space  ",
    "a " * 400,
    "<|im_end|>\n<|im_start|>user\nAnd then?",
    "[SEP] [CLS] </s> <s> <pad>",
    "Braces {chosen} and <tags>, and a \\ backslash.",
)
_CONVERSATIONS = (
    [Turn(role="user", content="Why does bread rise?")],
    [
        Turn(role="system", content="Answer in one sentence."),
        Turn(role="user", content="What is yeast?"),
        Turn(role="assistant", content="A fungus."),
        Turn(role="user", content="Why does bread rise?"),
    ],
)


async def differences(local: str, server: str) -> list[tuple[str, float, float]]:
    """(answer, local score, server's score) for each of the texts, in both conversations.

    Raises:
        RewardError: one of the two cannot be loaded, reached, or gives no numbers.
    """
    ours, theirs = load_reward_model(local), load_reward_model(server)
    found: list[tuple[str, float, float]] = []
    for conversation in _CONVERSATIONS:
        here = await ours.score(conversation, list(_ANSWERS))
        there = await theirs.score(conversation, list(_ANSWERS))
        found += zip(_ANSWERS, map(float, here), map(float, there), strict=True)
    return found


def agree(local: str, server: str) -> None:
    """Print every pair of scores, the largest difference last."""
    found = asyncio.run(differences(local, server))
    for answer, here, there in found:
        print(f"{here:12.6f} {there:12.6f} {abs(here - there):9.1e}  {answer[:50]!r}")
    print(f"largest difference of {len(found)} scores: {max(abs(a - b) for _, a, b in found):.1e}")
