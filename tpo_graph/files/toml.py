"""TOML files that describe a reward model or a price table: read, with one clear error."""

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from tpo_graph.errors import ConfigurationError, invalid_settings


class Table(BaseModel):
    """A table of such a file, or all of it: these fields and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


M = TypeVar("M", bound=Table)


def plain_toml(path: Path, what: str) -> dict[str, Any]:
    """The file's content as it is; arguments and error as for `read_toml`."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"the {what} {str(path)!r} cannot be read: {why}") from error


def read_toml(path: Path, form: type[M], what: str = "reward model's file") -> M:
    """The file's content as a `form`.

    Args:
        what: what to call the file in the error.

    Raises:
        ConfigurationError: it cannot be read, or does not fit; names the file and every problem.
    """
    try:
        return form.model_validate(plain_toml(path, what))
    except ValidationError as error:
        raise ConfigurationError(f"in {str(path)!r}: {invalid_settings(error, form)}") from error
