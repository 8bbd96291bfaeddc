"""The tiny models and their tokenizer: shapes, chat template, how they are saved.

Everything is in the standard transformers layout, so `local:PATH` loads them like any other model.
"""

from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast
from world import DESKS, FIRST, ITEMS, LAST, TOPICS

BOS, END, PAD, USER, ASSISTANT, SYSTEM = (
    "<|bos|>",
    "<|end|>",
    "<|pad|>",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
)
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
CONTEXT = 1024
# What a sentence can be about stays a token of its own, so that it can be copied; the words between
# become phrases of one token each, which makes every text about three times shorter.
CONTENT = "|".join([*FIRST, *LAST, *TOPICS, *ITEMS, *DESKS.values(), r"\d"])


def train_tokenizer(texts: Iterable[str], vocabulary: int = 1536) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with the chat template in it; the template writes the only BOS."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(rf"\b(?:{CONTENT})\b"), "isolated"),
            pre_tokenizers.Split(Regex(r"[.!?:;,>] *|\n"), "merged_with_previous"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[BOS, END, PAD, USER, ASSISTANT, SYSTEM],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[USER, ASSISTANT, SYSTEM],
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def new_policy(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained Llama of 1.2 million parameters."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def prompt_text(user: str) -> str:
    """What the chat template writes for one user message and the start of an answer."""
    return f"{BOS}{USER}{user}{END}{ASSISTANT}"


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save as float16 safetensors beside the tokenizer; the config says float32, so it loads so."""
    half = {name: value.to(torch.float16) for name, value in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        half.pop("lm_head.weight", None)
    model.save_pretrained(folder, state_dict=half)
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)
