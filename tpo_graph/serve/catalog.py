"""The models that clients may name: TPO on the base model, in several settings, and the base."""

import re
from dataclasses import dataclass
from typing import Any

from tpo_graph.context import RunOptions
from tpo_graph.serve.refusals import Refusal

_SETTING = re.compile(r"tpo(?:-d(\d{1,4}))?(?:-?n(\d{1,4}))?(?:/(.+))?")


@dataclass(frozen=True)
class Catalog:
    """What `GET /v1/models` lists."""

    policy: str
    """The policy's name, such as "openai:gpt-5-mini"."""
    critic: str | None
    """The critic's; None: the policy is its own."""
    defaults: RunOptions

    @property
    def base(self) -> str:
        """The policy as clients name it: without its provider, or the folder of its weights."""
        provider, _, name = self.policy.rpartition(":")
        if provider == "local":
            return name.rstrip("/").rpartition("/")[2] or name
        return self.policy.partition(":")[2] or self.policy

    @property
    def names(self) -> list[str]:
        """TPO as configured, best-of-N, one iteration, and the base itself."""
        short = [f"tpo-d{depth}n{self.defaults.width}" for depth in (0, 1)]
        return [f"{name}/{self.base}" for name in ("tpo", *short)] + [self.base]

    def settings_of(self, name: str) -> dict[str, Any] | None:
        """What a name says of a run; None for the base model itself.

        Raises:
            Refusal: there is no such model.
        """
        asked = name.removeprefix("openai/")
        if asked in (self.base, self.policy):
            return None
        match = _SETTING.fullmatch(asked)
        if match is None or match[3] not in (None, self.base, self.policy):
            raise Refusal(
                404,
                f"there is no model {name!r:.200}. There are: {', '.join(self.names)}; and "
                f"tpo-dDnN/{self.base} with any depth D and width N.",
                param="model",
                code="model_not_found",
            )
        found = {"depth": match[1], "width": match[2]}
        return {field: int(value) for field, value in found.items() if value is not None}
