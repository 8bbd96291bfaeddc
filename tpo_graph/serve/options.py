"""What an operator decides about the server itself: where it listens, whom it lets in, its bounds.

Options of `tpo serve`, then `TPO_SERVE_*` of the environment, then the table `[serve]` of tpo.toml.
What a run does is decided by `tpo_graph.settings`, as everywhere.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from tpo_graph.errors import ConfigurationError
from tpo_graph.models.connection import clean_key
from tpo_graph.settings import LayeredSettings, table_of
from tpo_graph.view.loopback import is_loopback


class ServeOptions(LayeredSettings):
    """Options of the server."""

    model_config = SettingsConfigDict(env_prefix="TPO_SERVE_", extra="forbid", frozen=True)

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8100, ge=0, le=65535, description="Port; 0 takes any free one.")
    api_key: SecretStr | None = Field(
        default=None,
        description="Key that clients must send. Better in TPO_SERVE_API_KEY: arguments are "
        "visible to other users of the machine.",
    )
    max_runs: int = Field(default=64, ge=1, description="Maximum concurrent runs.")
    queue: int = Field(
        default=256, ge=0, description="Requests that may wait; further ones get 429."
    )
    max_depth: int = Field(default=8, ge=0, description="Maximum depth of a request.")
    max_width: int = Field(default=16, ge=1, description="Maximum width of a request.")
    max_output_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Maximum tokens per response; requests that ask for more get this many.",
    )
    max_body: int = Field(
        default=20_000_000, ge=1_000, description="Maximum size of a request body, in bytes."
    )
    replay_seconds: float = Field(
        default=600.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds for which a repeated request gets the answer of the finished run.",
    )
    idempotency_seconds: float = Field(
        default=86_400.0,
        ge=0,
        allow_inf_nan=False,
        description="The same, for requests with an Idempotency-Key.",
    )
    drain: float = Field(
        default=30.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds that runs in flight may still take after SIGTERM.",
    )
    log_json: bool = Field(default=False, description="Log each request as one line of JSON.")

    @field_validator("api_key")
    @classmethod
    def _clean(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        cleaned = clean_key(value.get_secret_value(), "TPO_SERVE_API_KEY")
        return SecretStr(cleaned) if cleaned else None

    def seconds_of(self, named: bool) -> float:
        """For how long a finished run answers again.

        Args:
            named: the request has an Idempotency-Key.
        """
        return self.idempotency_seconds if named else self.replay_seconds

    @classmethod
    def load(cls, options: Mapping[str, Any], config: str | Path | None = None) -> Self:
        """Options from the command line, then the environment, then a TOML file's `[serve]`.

        Args:
            options: what was given explicitly; None means not given.

        Raises:
            ConfigurationError: the file cannot be read, a name is unknown, a value out of bounds,
                or others than this machine could connect without a key.
        """
        loaded = cls.layered(options, table_of(config, "serve"))
        if loaded.api_key is None and not is_loopback(loaded.host):
            raise ConfigurationError(
                f"host={loaded.host!r} lets other machines spend the model's tokens, and there is "
                "no key. Set TPO_SERVE_API_KEY (or --api-key), or listen on 127.0.0.1."
            )
        return loaded
