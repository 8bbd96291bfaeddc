"""Optional dependencies: what needs one that is not there says which package, and which extra."""

import warnings
from collections.abc import Generator
from contextlib import contextmanager

from tpo_graph.errors import ConfigurationError

_PACKAGES = {
    "Crypto": "pycryptodome",
    "langgraph.checkpoint.postgres": "langgraph-checkpoint-postgres",
}
"""Modules whose package has another name."""


@contextmanager
def extra(name: str, needed_by: str, instead: str = "") -> Generator[None]:
    """Import libraries of one of our extras within the block, and nothing else.

    Args:
        name: of the extra, as pyproject.toml has it.
        needed_by: what the user asked for; the message begins with it.
        instead: another way out, which ends the message.

    Raises:
        ConfigurationError: a library is missing, or is broken.
    """
    try:
        with warnings.catch_warnings():
            # tqdm, of a notebook without ipywidgets: nothing here needs them.
            warnings.filterwarnings("ignore", "IProgress not found")
            yield
    except ImportError as error:
        module = error.name or ""
        package = next(
            (known for start, known in _PACKAGES.items() if f"{module}.".startswith(f"{start}.")),
            module.partition(".")[0].replace("_", "-"),
        )
        missing = isinstance(error, ModuleNotFoundError)
        state = "is not installed" if missing else f"cannot be imported ({error})"
        raise ConfigurationError(
            f"{needed_by} needs {package}, which {state}. "
            f"Install it with: pip install 'tpo-graph[{name}]'{instead}"
        ) from error
