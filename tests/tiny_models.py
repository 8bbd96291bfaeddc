"""Tiny random models on disk, for tests: a causal LM or a one-label classifier, no download.

Each is made once per test session, in a temporary folder that is removed at exit.
"""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BOS_CHATML = "{{ bos_token }}" + CHATML
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}" + CHATML
)
ALTERNATING = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}{% endfor %}" + CHATML
)
SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
CORPUS = [
    "You are a helpful assistant. user system assistant",
    "The quick brown fox jumps over the lazy dog, and then the dog sleeps in the sun.",
    "Which of the answers is better, and why? A good answer is short and true.",
]


@cache
def _root() -> Path:
    root = Path(tempfile.mkdtemp(prefix="tiny-models-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root


def tokenizer(template: str | None = CHATML, *, adds_bos: bool = False, pad: str | None = None):
    """A byte-level BPE tokenizer of about 400 tokens, in the fashion of Llama 3 and Qwen."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    if adds_bos:
        backend.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="<|im_end|>",
        pad_token=pad,
        chat_template=template,
    )


_LINEAR = {
    "head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "num_experts": 2,
    "num_experts_per_tok": 1,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}


def _sizes(vocabulary: int, max_positions: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": max_positions,
        "initializer_range": 0.3,  # wide, so that random models have opinions
        "bos_token_id": 0,
        "eos_token_id": 3,
        "pad_token_id": None,
    }


def _config(family: str, vocabulary: int, max_positions: int, **extra: Any):
    from transformers import BertConfig, LlamaConfig, MambaConfig, Qwen3Config, Qwen3NextConfig

    lists = {name: list(v) if isinstance(v, tuple) else v for name, v in extra.items()}
    sizes = _sizes(vocabulary, max_positions) | lists
    if family == "bert":
        return BertConfig(**sizes | {"pad_token_id": 1})
    if family == "mamba":
        return MambaConfig(vocab_size=vocabulary, hidden_size=32, num_hidden_layers=2)
    if family == "hybrid":  # layers of linear and of full attention
        return Qwen3NextConfig(**sizes, **_LINEAR)
    if family == "qwen":
        return Qwen3Config(**sizes, head_dim=8)
    return LlamaConfig(**sizes)


def _save(folder: Path, model: Any, tokens: Any) -> str:
    model.save_pretrained(folder)
    tokens.save_pretrained(folder)
    return str(folder)


@cache
def causal_lm(
    family: str = "llama",
    *,
    template: str | None = CHATML,
    max_positions: int = 512,
    seed: int = 0,
    **extra: Any,
) -> str:
    """Folder of a random causal LM; `extra` goes to its configuration."""
    import torch
    from transformers import AutoModelForCausalLM

    tokens = tokenizer(template)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(
            _config(family, len(tokens), max_positions, **extra)
        )
    return _save(Path(tempfile.mkdtemp(dir=_root())), model, tokens)


@cache
def classifier(
    family: str = "llama",
    *,
    template: str | None = CHATML,
    adds_bos: bool = False,
    pad: str | None = None,
    max_positions: int = 1024,
    num_labels: int = 1,
    seed: int = 0,
    **extra: Any,
) -> str:
    """Folder of a random sequence classifier; `extra` goes to its configuration."""
    import torch
    from transformers import AutoModelForSequenceClassification

    tokens = tokenizer(template, adds_bos=adds_bos, pad=pad)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_config(
            _config(family, len(tokens), max_positions, num_labels=num_labels, **extra)
        )
    return _save(Path(tempfile.mkdtemp(dir=_root())), model, tokens)
