"""Train the policy and the reward models of the micro world from nothing.

    python examples/offline/train.py            # everything, into examples/offline/models
    python examples/offline/train.py --quick --out DIR    # a minute, to prove that it runs

Data comes from `data.py`, fresh at every step and seeded; no example is seen twice by design.
"""

import argparse
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from data import policy_examples, preference_pairs
from tiny import END, new_policy, prompt_text, save, train_tokenizer
from torch.nn import functional
from transformers import LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

HERE = Path(__file__).parent
ROWS, LENGTH = 16, 256
PAIRS = 32
# name of the reward model -> the preference pairs that it learns
REWARDS = {
    "reward-brief": {"taste": "brief"},
    "reward-warm": {"taste": "warm"},
    "reward-weak": {"taste": "warm", "minimal": 0.0, "slips": False},
}


def pack(examples: Iterator[tuple[list[int], int]]) -> Iterator[dict[str, torch.Tensor]]:
    """Batches of ROWS x LENGTH tokens in which every example attends to itself only.

    Args:
        examples: token ids of an example, and how many of them are prompt (they bear no loss).
    """
    waiting: tuple[list[int], int] | None = None
    while True:
        ids = torch.zeros(ROWS, LENGTH, dtype=torch.long)
        labels = torch.full((ROWS, LENGTH), -100)
        document = torch.zeros(ROWS, LENGTH, dtype=torch.long)
        position = torch.zeros(ROWS, LENGTH, dtype=torch.long)
        for row in range(ROWS):
            start, number = 0, 1
            while True:
                tokens, prompt = waiting or next(examples)
                waiting = None
                end = start + len(tokens)
                if end > LENGTH:
                    waiting = tokens, prompt
                    break
                ids[row, start:end] = torch.tensor(tokens)
                # the label of a place is the token after it
                labels[row, start + prompt - 1 : end - 1] = ids[row, start + prompt : end]
                document[row, start:end] = number
                position[row, start:end] = torch.arange(len(tokens))
                start, number = end, number + 1
        same = document[:, None, :, None] == document[:, None, None, :]
        causal = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
        yield {"ids": ids, "labels": labels, "mask": same & causal, "position": position}


def tokenised(tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[tuple[list[int], int]]:
    """Policy examples as token ids, with the length of the prompt; those too long are left out."""
    stream = policy_examples(seed)
    while True:
        chunk = list(islice(stream, 256))
        prompts = tokenizer([prompt_text(user) for user, _ in chunk], add_special_tokens=False)
        replies = tokenizer([reply + END for _, reply in chunk], add_special_tokens=False)
        for prompt, reply in zip(prompts["input_ids"], replies["input_ids"], strict=True):
            if len(prompt) + len(reply) <= LENGTH:
                yield prompt + reply, len(prompt)


def optimizers(model: torch.nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for the rest, at the same rate."""
    inside = [p for name, p in model.named_parameters() if p.ndim == 2 and "layers." in name]
    chosen = {id(p) for p in inside}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(inside, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def rate_at(step: int, steps: int) -> float:
    """Warm up over 5%, hold, and fall to nothing over the last half."""
    return min((step + 1) / (0.05 * steps), 1.0, 2 * (1 - step / steps))


def take_step(parts: list[torch.optim.Optimizer], model: torch.nn.Module, rate: float) -> None:
    """Clip the gradient, step at this rate, and clear it."""
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for part in parts:
        for group in part.param_groups:
            group["lr"] = rate
        part.step()
        part.zero_grad(set_to_none=True)


def train_policy(
    tokenizer: PreTrainedTokenizerFast, steps: int, rate: float, seed: int, bf16: bool, folder: Path
) -> LlamaForCausalLM:
    """Train the policy on all its calls at once; the loss is on replies only."""
    torch.manual_seed(seed)
    model = new_policy(tokenizer)
    parts = optimizers(model, rate)
    batches = pack(tokenised(tokenizer, seed + 1))
    began = time.monotonic()
    for step, batch in zip(range(steps), batches, strict=False):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            hidden = model.model(
                input_ids=batch["ids"],
                attention_mask=batch["mask"],
                position_ids=batch["position"],
                use_cache=False,
            ).last_hidden_state
            places = batch["labels"].flatten().ne(-100).nonzero()[:, 0]
            # the same few shapes at every step: a kernel is built anew for every other one
            places = functional.pad(places, (0, -len(places) % 512))
            logits = model.lm_head(hidden.flatten(0, 1)[places])
        wanted = batch["labels"].flatten()[places]
        loss = functional.cross_entropy(logits.float(), wanted)
        loss.backward()
        take_step(parts, model, rate * rate_at(step, steps))
        if step % 50 == 0 or step == steps - 1:
            seconds = time.monotonic() - began
            print(f"policy {step}/{steps} loss {loss.item():.4f} {seconds:.0f} s", flush=True)
        if step % 500 == 499:
            save(model, tokenizer, folder)
    save(model, tokenizer, folder)
    return model


def encode(
    tokenizer: PreTrainedTokenizerFast, exchanges: list[tuple[str, str]]
) -> dict[str, torch.Tensor]:
    """Queries and replies through the chat template, padded to one batch."""
    texts = [prompt_text(query) + reply + END for query, reply in exchanges]
    options = {"add_special_tokens": False, "padding": True, "pad_to_multiple_of": 32}
    return dict(tokenizer(texts, return_tensors="pt", **options))


def train_reward(
    tokenizer: PreTrainedTokenizerFast,
    policy: Path,
    folder: Path,
    steps: int,
    rate: float,
    seed: int,
    bf16: bool,
) -> LlamaForSequenceClassification:
    """Train one reward model (Bradley-Terry), starting from the policy's weights."""
    torch.manual_seed(seed)
    model = LlamaForSequenceClassification.from_pretrained(
        policy, num_labels=1, dtype=torch.float32
    )
    parts = optimizers(model, rate)
    pairs = preference_pairs(seed + 2, **REWARDS[folder.name])
    began = time.monotonic()
    for step in range(steps):
        batch = list(islice(pairs, PAIRS))
        exchanges = [(query, better) for query, better, _ in batch]
        exchanges += [(query, worse) for query, _, worse in batch]
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            rewards = model(**encode(tokenizer, exchanges), use_cache=False).logits[:, 0].float()
        margin = rewards[:PAIRS] - rewards[PAIRS:]
        loss = -functional.logsigmoid(margin).mean()
        loss.backward()
        take_step(parts, model, rate * rate_at(step, steps))
        if step % 50 == 0 or step == steps - 1:
            right = (margin > 0).float().mean().item()
            seconds = time.monotonic() - began
            progress = f"{folder.name} {step}/{steps} loss {loss.item():.4f} right {right:.2f}"
            print(f"{progress} {seconds:.0f} s", flush=True)
    save(model, tokenizer, folder)
    return model


def main() -> None:
    """Parse the options and train what they ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=HERE / "models", help="where the models go")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=3000, help="policy steps")
    parser.add_argument("--reward-steps", type=int, default=800, help="steps of each reward model")
    parser.add_argument("--rate", type=float, default=3e-3, help="learning rate of the policy")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bf16", action="store_true", help="bfloat16 arithmetic (needs AMX)")
    parser.add_argument("--quick", action="store_true", help="a few steps of everything")
    parser.add_argument("--only", nargs="*", choices=["policy", *REWARDS], help="train only these")
    options = parser.parse_args()
    if options.quick:
        options.steps, options.reward_steps = 12, 6
    torch.set_num_threads(options.threads)
    bf16 = options.bf16
    wanted = options.only or ["policy", *REWARDS]
    policy = options.out / "policy"
    if "policy" in wanted:
        texts = (text for pair in islice(policy_examples(options.seed), 20_000) for text in pair)
        tokenizer = train_tokenizer(texts)
        train_policy(tokenizer, options.steps, options.rate, options.seed, bf16, policy)
    else:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(policy)
    for name in REWARDS:
        if name in wanted:
            folder = options.out / name
            train_reward(
                tokenizer,
                policy,
                folder,
                options.reward_steps,
                options.rate / 3,
                options.seed,
                bf16,
            )


if __name__ == "__main__":
    main()
