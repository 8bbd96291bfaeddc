"""One place where options, `TPO_*` environment variables and a `tpo.toml` meet.

Used by the command line and by the LangGraph server's factory, so that both read the same names.
The library itself never looks at the environment: an explicit argument is the last word there.
"""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, cast

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from tpo_graph.context import RunOptions
from tpo_graph.errors import ConfigurationError, instead, invalid_settings, nearest
from tpo_graph.files.toml import plain_toml
from tpo_graph.models.connection import ROLES, connected, read_options
from tpo_graph.rewards.forms import anchored, written
from tpo_graph.strategies.methods import method_settings

if TYPE_CHECKING:
    from tpo_graph.session.setup import Setup

CALLED = {"database": "database_url", "reuse_scores": "score_cache"}
"""Inputs of a run (`tpo_graph.session.setup`) that have another name here."""

Options = Annotated[dict[str, Any] | None, NoDecode]
"""Of a role's connection; `Settings` itself reads the JSON, and shows none of it in errors."""


class LayeredSettings(BaseSettings):
    """Settings from three places: explicit options, the environment, a file."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Options and the file are merged by `layered`, around the environment."""
        return (init_settings, env_settings)

    @classmethod
    def spelled_out(cls, layer: Mapping[str, Any]) -> Mapping[str, Any]:
        """What one place says, in single settings."""
        return layer

    @classmethod
    def layered(cls, options: Mapping[str, Any], from_file: Mapping[str, Any]) -> Self:
        """Options, where they are not None, over the environment, and that over the file."""
        given = {name: value for name, value in options.items() if value is not None}
        try:
            environment = cls.model_validate({}).model_dump(exclude_unset=True)
            layers = map(cls.spelled_out, (from_file, environment, given))
            return cls(**{name: value for layer in layers for name, value in layer.items()})
        except ValidationError as e:
            raise invalid_settings(e, cls) from None


class Settings(LayeredSettings, RunOptions):  # pyright: ignore[reportIncompatibleVariableOverride]
    """What a user can configure: the models, the prompts, and every option of a run."""

    model_config = SettingsConfigDict(env_prefix="TPO_", extra="forbid", frozen=True)

    model: str | None = Field(
        default=None,
        description='The policy: "provider:model" or "local:PATH_OR_HUB_ID".',
    )
    reward_model: str | None = Field(
        default=None,
        description=f"The reward model: {written()}.",
    )
    audit: str | None = Field(
        default=None,
        description="A second reward model that scores the best first sample and the answer.",
    )
    audit_fallback: bool = Field(
        default=False,
        description="Answer with the best first sample if the reward rose and the audit fell.",
    )
    critic: str | None = Field(
        default=None, description="Writes losses and gradients; defaults to the policy."
    )
    prompts: str = Field(
        default="tpo",
        description="Prompt set: tpo, revision, feedback or another built-in one "
        "(docs/methods.md), or the path of a folder.",
    )
    method: str | None = Field(
        default=None,
        description="Prompts, select, pick and stop of a method: tpo, revision, fusion, rsa, tmpc, "
        "knockout, tempered, pandora, auto and more (docs/methods.md).",
    )

    model_options: Options = Field(
        default=None,
        description="Connection to the policy's server: base_url, api_key_env, default_headers, "
        "extra_body, timeout, max_retries, as JSON or a table of the file.",
    )
    critic_options: Options = Field(default=None, description="The same for the critic.")
    reward_model_options: Options = Field(
        default=None, description="The same for the reward model's server, or the judge's."
    )
    audit_options: Options = Field(default=None, description="The same for the audit's server.")

    grace: float = Field(
        default=10.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds that calls in flight may still take after Ctrl-C or SIGTERM.",
    )

    database_url: str | None = Field(
        default="sqlite:///tpo.db",
        description='Where runs are stored: "sqlite:///FILE", "postgresql+psycopg://...", "none".',
    )
    score_cache: bool = Field(
        default=True, description="Reuse rewards already stored in the database."
    )

    policies: dict[str, str] = Field(
        default={}, description="Policies that a run on a server may choose, by name."
    )
    critics: dict[str, str] = Field(
        default={}, description="Critics that a run on a server may choose, by name."
    )
    reward_models: dict[str, str] = Field(
        default={}, description="Reward models that a run on a server may choose, by name."
    )

    @field_validator("*", mode="before")
    @classmethod
    def _unset(cls, value: Any) -> Any:
        # TOML and the environment have no null: "none" is how a user unsets a parameter.
        return None if isinstance(value, str) and value.strip().lower() == "none" else value

    @field_validator(*(f"{role}_options" for role in ROLES), mode="before")
    @classmethod
    def _options(cls, value: Any) -> Any:
        return read_options(value)

    @classmethod
    def spelled_out(cls, layer: Mapping[str, Any]) -> Mapping[str, Any]:
        """A method's settings, under those that the same place gives one by one."""
        name = layer.get("method")
        if not isinstance(name, str) or name.strip().lower() == "none":
            return layer
        return {**method_settings(name), **layer}

    @classmethod
    def load(cls, options: Mapping[str, Any], config: str | Path | None = None) -> Self:
        """Settings from options, then the environment, then a TOML file.

        Args:
            options: what was given explicitly; None means not given.
            config: path of a TOML file with the same names. Paths in it that begin with "./" or
                "../" are relative to the file.

        Raises:
            ConfigurationError: the file cannot be read, a name is unknown, a value out of bounds.
        """
        _refuse_misspelt(cls.model_fields)
        settings = cls.layered(options, {} if config is None else _read(Path(config)))
        # From here on, whoever uses a name uses its options.
        names = {
            role: connected(getattr(settings, role), options, role)
            for role in ROLES
            if (options := getattr(settings, f"{role}_options")) is not None
        }
        return settings.model_copy(update=names) if names else settings

    def policy_name(self) -> str:
        """The model's name; an error lists the ways to give one."""
        if self.model is None:
            forms = (
                '"openai:NAME" (OPENAI_BASE_URL points it at a vLLM server; other providers of '
                'LangChain work the same), or "local:PATH_OR_HUB_ID" for a small model'
            )
            raise ConfigurationError(_ways_to_name("model", forms))
        return self.model

    def reward_model_name(self) -> str:
        """The reward model's name; an error lists the ways to give one."""
        if self.reward_model is None:
            forms = (
                '"local:PATH_OR_HUB_ID", for example '
                '"local:Skywork/Skywork-Reward-V2-Qwen3-0.6B"; "vllm:http://HOST:PORT#MODEL" or '
                '"sglang:..." for a server; "judge:PROVIDER:MODEL" for a chat model as judge; '
                '"ensemble:FILE.toml" or "length-penalty:FILE.toml" (docs/rewards.md)'
            )
            raise ConfigurationError(_ways_to_name("reward_model", forms))
        return self.reward_model

    def inputs(self) -> dict[str, Any]:
        """The arguments of `optimize` that these are: `Inputs`, with the run's settings."""
        return {**self._of_setup({}), **self.run_options()}

    def setup(self, **given: Any) -> "Setup":
        """What a run is made of, and what its context may choose.

        Args:
            given: objects in place of the names that are configured.
        """
        from tpo_graph.session.setup import Choices, Setup  # with all that makes a graph

        choices = Choices(
            policies=self.policies, critics=self.critics, reward_models=self.reward_models
        )
        return Setup(**self._of_setup(given), choices=choices)

    def _of_setup(self, given: Mapping[str, Any]) -> dict[str, Any]:
        from tpo_graph.session.setup import KEYS

        named: dict[str, Any] = {
            "model": given.get("model") or self.policy_name(),
            "reward_model": given.get("reward_model") or self.reward_model_name(),
        }
        for name in KEYS - {f"{role}_options" for role in ROLES} - named.keys():
            named[name] = given.get(name) or getattr(self, CALLED.get(name, name))
        return named

    def run_options(self) -> dict[str, Any]:
        """The fields of `RunOptions`, ready for `optimize` or a `TPOContext`."""
        return self.model_dump(include=set(RunOptions.model_fields))


_FILE = "configuration file"
_OTHERS = ("config", "log_level", "log_json")
"""Variables of ours that are no settings; those of `tpo serve` begin with `TPO_SERVE_`."""


def _refuse_misspelt(known: Collection[str]) -> None:
    """Refuse a variable whose name is nearly that of a setting: it would be ignored. Variables of
    other names are somebody else's."""
    for variable in os.environ:
        name = variable.removeprefix("TPO_").lower()
        if not variable.startswith("TPO_") or name in (*known, *_OTHERS):
            continue
        if not name.startswith("serve_") and (close := nearest(name, known, cutoff=0.8)):
            raise ConfigurationError(
                f"the environment variable {variable!r} is not a setting; did you mean "
                f"{f'TPO_{close.upper()}'!r}?"
            )


def _ways_to_name(name: str, forms: str) -> str:
    shown = name.replace("_", " ")
    return f"""no {shown} is configured. Name one in one of these ways:
  --{name.replace("_", "-")} SPEC    as an option of a command of tpo
  TPO_{name.upper()}=SPEC    in the environment, of LangGraph's server too
  {name} = "SPEC"    in ./tpo.toml, or in the file that --config or TPO_CONFIG names
where SPEC is {forms}.
To see TPO work without any model of your own, run: make demo"""


def found_config() -> str | None:
    """The configuration file where none is named: tpo.toml in the working directory, if any."""
    return "tpo.toml" if Path("tpo.toml").is_file() else None


def configured_probes(config: str | Path | None) -> Path | None:
    """The file of probes that a configuration names for `tpo check`: `probes` in its `[check]`."""
    probes = _only_name(config, "check", "probes", '"FILE"')
    return None if probes is None else Path(_anchored(str(probes), Path(str(config)).parent))


def configured_methods(config: str | Path | None) -> list[str]:
    """The methods that a configuration names for `tpo compare`: `methods` in its `[compare]`."""
    methods: Any = _only_name(config, "compare", "methods", '["tpo", "NAME=FOLDER"]')
    if not isinstance(methods, list | None):
        raise ConfigurationError(
            f"methods={methods!r} in [compare] of {str(config)!r} is not valid: it must be a list"
        )
    folder = Path(str(config)).parent
    found = (str(method).partition("=") for method in cast("list[Any]", methods or []))
    return [f"{name}{equals}{anchored(source, folder)}" for name, equals, source in found]


def _only_name(config: str | Path | None, table: str, name: str, form: str) -> Any:
    values = table_of(config, table)
    if values.keys() - {name}:
        raise ConfigurationError(
            f"[{table}] in {str(config)!r} is {values!r}; it knows one name, {name} = {form}"
        )
    return values.get(name)


def table_of(config: str | Path | None, name: str) -> dict[str, Any]:
    """A table of the configuration file that is read by one command alone; empty if it is absent.

    Raises:
        ConfigurationError: the file cannot be read, or what stands there is no table.
    """
    table: Any = {} if config is None else plain_toml(Path(config), _FILE).get(name, {})
    if not isinstance(table, dict):
        raise ConfigurationError(f"{name} in {str(config)!r} is {table!r}; it must be a table")
    return cast("dict[str, Any]", table)


def _read(path: Path) -> dict[str, Any]:
    values = plain_toml(path, _FILE)
    for command in ("check", "compare", "serve"):  # of these commands alone
        values.pop(command, None)
    if "database" in values:  # as the option is called; only the environment says database_url
        values.setdefault("database_url", values.pop("database"))
    if unknown := sorted(set(values) - set(Settings.model_fields)):
        known = sorted({*Settings.model_fields, "database"} - {"database_url"})
        raise ConfigurationError(
            f"there is no setting {unknown[0]!r} in {str(path)!r}; {instead(unknown[0], known)}"
        )
    return {
        name: {key: _anchored(each, path.parent) for key, each in cast("Any", value).items()}
        if isinstance(value, dict)
        else _anchored(value, path.parent)
        for name, value in values.items()
    }


def _anchored(value: Any, folder: Path) -> Any:
    return anchored(value, folder) if isinstance(value, str) else value
