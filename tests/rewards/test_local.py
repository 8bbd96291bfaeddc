"""The local reward model against plain one-by-one transformers, and the errors it owes."""

import asyncio
import json
import shutil
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path

import pytest

from tests.tiny_models import BOS_CHATML, CHATML, SPECIAL, causal_lm, classifier
from tpo_graph.conversation import Turn
from tpo_graph.errors import ConfigurationError, RewardInputError
from tpo_graph.local.padded import PaddedForward
from tpo_graph.rewards import LocalRewardModel

LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [3.0] * 4,
    "original_max_position_embeddings": 64,
}
KINDS = {
    "llama": ("llama", {}),
    "qwen": ("qwen", {}),
    "encoder": ("bert", {}),
    "recurrent": ("hybrid", {}),
    "sliding": ("qwen", {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}),
    "long rope": ("llama", {"rope_parameters": LONG_ROPE}),
}
ASKED = [Turn(role="user", content="Which is better?")]
RESPONSES = [
    "The quick brown fox.",
    "",
    "a",
    "jumps over the lazy dog " * 12,
    "漢字 🎉 é ŝ \u202e",
    "and then the dog sleeps " * 5,
    "The quick brown fox.",
    "<s> typed BOS",
    "x" * 90,
]


def reference(folder: str, conversation: list[Turn], response: str, *, bos: bool = False) -> float:
    """One by one, with nothing but transformers, for text without control tokens."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    turns = [*conversation, Turn(role="assistant", content=response)]
    ids = tokens.apply_chat_template(turns, return_dict=False)
    ids = [tokens.bos_token_id, *ids] if bos else ids
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, 0].item()


@cache
def kind_of(kind: str) -> str:
    family, extra = KINDS[kind]
    return classifier.__wrapped__(family, **extra)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_tokens", [1, 600, 100_000])
async def test_scores_equal_one_by_one_scoring(kind, batch_tokens):
    folder = kind_of(kind)
    scores = await LocalRewardModel(folder, batch_tokens=batch_tokens).score(ASKED, RESPONSES)
    plain = [i for i, text in enumerate(RESPONSES) if not any(t in text for t in SPECIAL)]
    expected = [reference(folder, ASKED, RESPONSES[i]) for i in plain]
    assert [scores[i] for i in plain] == pytest.approx(expected, abs=1e-5)
    assert scores[0] == scores[6]
    assert len(set(scores)) == len(RESPONSES) - 1


@pytest.mark.parametrize("pad", [None, "<|im_end|>", "</s>"])
async def test_the_padding_token_never_moves_the_position_read(pad):
    # The template ends every text with "<|im_end|>" here: padding by it hides the last token.
    template = CHATML.removesuffix(
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    template = template.replace("<|im_end|>\n", "<|im_end|>")
    folder = classifier(template=template, pad=pad)
    scores = await LocalRewardModel(folder).score(ASKED, RESPONSES[:6])
    single = [(await LocalRewardModel(folder).score(ASKED, [text]))[0] for text in RESPONSES[:6]]
    assert scores == pytest.approx(single, abs=1e-5)
    expected = [reference(classifier(template=template), ASKED, text) for text in RESPONSES[:6]]
    assert scores == pytest.approx(expected, abs=1e-5)


async def test_a_vocabulary_without_a_free_token_is_scored_all_the_same(monkeypatch):
    model = LocalRewardModel(classifier())
    expected = await model.score(ASKED, RESPONSES)
    monkeypatch.setattr(PaddedForward, "_padding", lambda self, rows: None)
    assert await model.score(ASKED, RESPONSES) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("template", "adds_bos"), [(CHATML, True), (BOS_CHATML, True), (BOS_CHATML, False)]
)
async def test_exactly_one_bos(template, adds_bos):
    folder = classifier(template=template, adds_bos=adds_bos)
    scores = await LocalRewardModel(folder).score(ASKED, ["a", "<s>a"])
    expected = reference(folder, ASKED, "a", bos=template is CHATML)
    assert scores[0] == pytest.approx(expected, abs=1e-5)
    assert scores[1] != scores[0]


def calm() -> str:
    """Weights that do not blow rounding up: which calls share a batch is left to chance here."""
    return classifier(initializer_range=0.1)


def test_event_loops_of_several_threads_share_a_model():
    model = LocalRewardModel(calm())
    questions = [[Turn(role="user", content=f"question {i} " * 40)] for i in range(4)]
    results: dict[int, list[float]] = {}

    async def ask(i: int) -> None:
        results[i] = await model.score(questions[i], RESPONSES)

    threads = [threading.Thread(target=asyncio.run, args=(ask(i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for i, question in enumerate(questions):
        alone = asyncio.run(LocalRewardModel(calm()).score(question, RESPONSES))
        assert results[i] == pytest.approx(alone, abs=1e-5)


async def test_a_call_that_cannot_be_scored_or_is_cancelled_leaves_the_others_alone():
    model = LocalRewardModel(calm(), batch_tokens=300)
    expected = await model.score(ASKED, RESPONSES)
    calls = [
        asyncio.create_task(model.score(ASKED, texts))
        for texts in (RESPONSES, [*RESPONSES, "é" * 2000], RESPONSES, RESPONSES)
    ]
    await asyncio.sleep(0)
    calls[2].cancel()
    first, long, cancelled, last = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(long, RewardInputError)
    assert isinstance(cancelled, asyncio.CancelledError)
    # Calls that run side by side meet in other batches, which moves the last digits.
    assert first == pytest.approx(expected, abs=1e-5)
    assert last == pytest.approx(expected, abs=1e-5)


async def test_the_shared_prefix_ends_where_whole_rows_begin_to_differ():
    # No control token stands before the answer, so its first letters join up with the header.
    folder = classifier(template="{% for m in messages %}{{ m['content'] }} the{% endfor %}")
    asked = [Turn(role="user", content="The quick brown fox jumps over the lazy dog, " * 4)]
    answers = ["n the dog sleeps", "n", "re", "quick", " quick", "ir lazy dog"]
    scores = await LocalRewardModel(folder).score(asked, answers)
    expected = [reference(folder, asked, answer) for answer in answers]
    assert scores == pytest.approx(expected, abs=1e-5)


async def test_the_event_loop_runs_while_the_model_scores():
    model = LocalRewardModel(classifier())
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    heart = asyncio.create_task(tick())
    await model.score(ASKED, [text * 3 for text in RESPONSES])
    heart.cancel()
    assert ticks > 10


async def test_too_long_says_by_how_much():
    model = LocalRewardModel(classifier(max_positions=64))
    exact = "a" * 30
    ids_over = None
    for count in range(1, 80):
        try:
            await model.score(ASKED, ["é" * count])
        except RewardInputError as error:
            ids_over = str(error)
            break
    assert ids_over is not None
    assert "1 more than" in ids_over or "2 more than" in ids_over
    assert "(64)" in ids_over
    assert "Lower max_tokens" in ids_over
    with pytest.raises(RewardInputError, match=r"more than .* \(20\)"):
        await LocalRewardModel(classifier(), max_length=20).score(ASKED, [exact])


def test_what_is_no_reward_model_is_refused():
    with pytest.raises(ConfigurationError, match="has 2 labels"):
        LocalRewardModel(classifier(num_labels=2))
    with pytest.raises(ConfigurationError, match="no chat template"):
        LocalRewardModel(classifier(template=None))
    with pytest.raises(ConfigurationError, match="neither a folder"):
        LocalRewardModel("/no/such/folder")


def test_a_language_model_without_a_trained_head_is_refused(tmp_path: Path):
    folder = shutil.copytree(causal_lm(), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["id2label"], config["label2id"] = {"0": "LABEL_0"}, {"LABEL_0": 0}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigurationError, match=r"no trained weights for \['score.weight'\]"):
        LocalRewardModel(str(folder))


def test_the_name_follows_weights_template_and_dtype_in_any_process():
    folder = classifier()
    name = LocalRewardModel(folder).name
    assert name.startswith(f"local:{folder}@")
    digests = [
        model.name.rpartition("@")[2]
        for model in (
            LocalRewardModel(folder),
            LocalRewardModel(classifier(seed=1)),
            LocalRewardModel(classifier(template=BOS_CHATML)),
            LocalRewardModel(folder, dtype="bfloat16"),
        )
    ]
    assert len(set(digests)) == 4
    code = f"from tpo_graph.rewards import LocalRewardModel as L; print(L({folder!r}).name)"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert other.stdout.strip() == name
