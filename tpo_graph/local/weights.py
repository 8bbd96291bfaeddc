"""Load a model and its tokenizer through transformers, with one clear error when that fails.

Weights come from a folder or from the Hugging Face hub, as safetensors only; code from a repository
runs only where the caller asks for it. Local policies and local reward models load here.
"""

import re
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple

from tpo_graph.errors import ConfigurationError
from tpo_graph.extras import extra

LOADING = RLock()
"""Held while a model loads, so that one that two threads ask for at once is loaded once."""

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


class Options(NamedTuple):
    """How to load, and where the weights then live."""

    trust_remote_code: bool = False
    """Run Python code that comes with the model."""
    dtype: str | None = None
    """torch dtype name such as "bfloat16"; None keeps the default of the caller."""
    device: str | None = None
    """torch device such as "cuda:1"; None takes an accelerator if there is one, else the CPU."""

    def where(self) -> str:
        """The device, chosen now if none was named.

        Raises:
            ConfigurationError: torch is missing.
        """
        torch, _ = _libraries("a local model")
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return self.device or str(accelerator or "cpu")


class Pretrained(NamedTuple):
    """What came out of a repository."""

    model: Any
    """transformers model, in evaluation mode."""
    tokenizer: Any
    max_positions: int | None
    """Longest sequence the model was built for, in tokens; None where it names no limit."""


def resolve(source: str) -> str:
    """`source` as an absolute folder if it is one on this disk, else as the hub id that it is.

    Raises:
        ConfigurationError: it is neither.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return str(folder.resolve())
    if folder.exists():
        raise ConfigurationError(f"{source!r} is a file: name the folder that holds the model.")
    if not _HUB_ID.fullmatch(source):
        raise ConfigurationError(
            f"no model at {source!r}: neither a folder on this machine nor a hub id (OWNER/NAME)."
        )
    return source


def load(source: str, auto_class: str, options: Options) -> Pretrained:
    """Load `source` with the transformers class of that name, e.g. "AutoModelForCausalLM".

    Raises:
        ConfigurationError: transformers or torch is missing, there is no such model, it has no
            safetensors, or its weights do not fill the architecture.
    """
    _, transformers = _libraries(f"the local model {source!r}")
    _refuse_pickled(source)
    try:
        with _no_progress_bar(transformers, source):
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                source, trust_remote_code=options.trust_remote_code
            )
            model, report = getattr(transformers, auto_class).from_pretrained(
                source,
                trust_remote_code=options.trust_remote_code,
                use_safetensors=True,
                dtype=options.dtype or "auto",
                output_loading_info=True,
            )
        model = model.to(options.where()).eval()
    except Exception as error:
        raise _explained(source, error) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ConfigurationError(
            f"{source!r} has no trained weights for {missing[:3]!r}"
            f"{' and more' if len(missing) > 3 else ''}: "
            f"it was not saved as what {auto_class} loads. Name another model."
        )
    text_config = model.config.get_text_config()
    return Pretrained(model, tokenizer, getattr(text_config, "max_position_embeddings", None))


def load_tokenizer(source: str) -> Any:
    """The tokenizer alone, for models that another process serves. Needs transformers, not torch.

    Raises:
        ConfigurationError: transformers or jinja2 is missing, or there is no such tokenizer.
    """
    with extra("local", f"the tokenizer of {source!r}"):
        import_module("jinja2")  # chat templates; transformers does not bring it
        from transformers import AutoTokenizer
    tokenizer: Any = AutoTokenizer  # its methods have no types
    try:
        return tokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:
        raise _explained(source, error) from error


def load_config(source: str, options: Options) -> Any:
    """The model's configuration alone, which costs nothing to look at before its weights."""
    _, transformers = _libraries(f"the local model {source!r}")
    try:
        return transformers.AutoConfig.from_pretrained(
            source, trust_remote_code=options.trust_remote_code
        )
    except Exception as error:
        raise _explained(source, error) from error


def _libraries(needed_by: str) -> tuple[Any, Any]:
    with extra("local", needed_by):
        import_module("jinja2")  # chat templates; transformers does not bring it
        import torch
        import transformers
    return torch, transformers


@contextmanager
def _no_progress_bar(transformers: Any, source: str) -> Generator[None]:
    # From a folder it takes a moment; a download deserves its bar.
    logging = transformers.utils.logging
    silence = Path(source).is_dir() and logging.is_progress_bar_enabled()
    if silence:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if silence:
            logging.enable_progress_bar()


def _refuse_pickled(source: str) -> None:
    folder = Path(source)
    if not folder.is_dir() or any(folder.glob("*.safetensors")):
        return
    pickled = sorted(path.name for pattern in _PICKLED for path in folder.glob(pattern))
    if pickled:
        raise ConfigurationError(
            f"{source!r} holds only pickled weights ({pickled[0]!r}), and unpickling runs code. "
            "Convert them: model.save_pretrained(...) writes safetensors."
        )
    raise ConfigurationError(f"{source!r} holds no weights: there is no *.safetensors in it.")


def _explained(source: str, error: Exception) -> ConfigurationError:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if "trust_remote_code" in str(error):
        fix = "It needs its own code: read that, then load it with trust_remote_code=True."
    elif "safetensors" in str(error):
        fix = "Only safetensors are loaded: pickled weights run code. Name a converted model."
    elif Path(source).is_dir():
        fix = "Save it with save_pretrained, model and tokenizer, into one folder."
    else:
        fix = "Check the name, the network, and for gated models `hf auth login`."
    return ConfigurationError(
        f"cannot load {source!r}: {type(error).__name__}: {reason[:300]} {fix}"
    )
