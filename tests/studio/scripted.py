"""A policy, a critic and a judge behind one OpenAI server: what each call is answered."""

import json
from typing import Any


def respond(messages: list[dict[str, Any]], seed: int | None, index: int) -> str:
    """Rewrites follow the gradient to the letter: they end with it. The judge likes length."""
    prompt = messages[-1]["content"]
    if "You judge the answers" in messages[0]["content"]:
        answer = prompt.split("<answer-")[1].partition("\n")[2].rpartition("\n</answer-")[0]
        score = min(10, 1 + len(answer) // 4)
        scores = dict.fromkeys(("correct", "helpful", "clear"), score)
        return json.dumps({"reasons": "long is good", "scores": scores})
    if "</improved_answer>" in prompt:
        chosen = between(prompt, "chosen_answer")
        gradient = prompt.split("Changes to make to it:\n")[1].split("\n")[0]
        return f"<improved_answer>{chosen} {gradient} {index}</improved_answer>"
    if "fewest changes" in prompt:
        return "Be polite."
    if "<chosen_answer>" in prompt:
        return "The chosen answer says more."
    return "Hello" + " there" * index


def between(text: str, tag: str) -> str:
    """What stands between the tag's own lines."""
    return text.split(f"<{tag}>\n")[1].split(f"\n</{tag}>")[0]
