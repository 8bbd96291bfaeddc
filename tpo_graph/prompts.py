"""Prompt sets: folders of loss.yaml, gradient.yaml and update.yaml, checked when loaded.

A fourth file, loss_tie.yaml, takes the place of loss.yaml where no answer scored higher.

Prompts are data: `prompts/tpo` and `prompts/revision` come with the package, a user's folder works
the same. All checks happen at load, so that no typing error is found after the samples are paid
for. Nodes render them; text is substituted once, so a query that contains "{chosen}" stays itself.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from tpo_graph.errors import PromptError
from tpo_graph.files.shipped import data_folder

Stage = Literal["loss", "gradient", "update"]

_LOSS = frozenset({"query", "conversation", "chosen", "rejected", "answers", "criteria", "reasons"})
_GRADIENT = _LOSS | {"loss_system", "loss_user", "loss"}
VARIABLES: Mapping[Stage, frozenset[str]] = {
    "loss": _LOSS,
    "gradient": _GRADIENT,
    "update": _GRADIENT | {"gradient"},
}
"""The variables each stage may use: what exists by the time it is called."""

BEFORE: Mapping[Stage, Stage] = {"gradient": "loss", "update": "gradient"}
"""The stage whose exchange each one may continue."""
_BLOCKS = ("criteria", "reasons")
"""Variables that are often empty: the key of the same name holds the text around the value, which
is left out with it."""
_INSTEAD = ("standing", "resample")
"""Keys that stand in place of a prompt."""
_KEYS = {
    "system",
    "user",
    "input_variables",
    "output_tag",
    "continues",
    "no_change",
    *_BLOCKS,
    *_INSTEAD,
}
_TIE = "loss_tie.yaml"
_PIECE = re.compile(r"\{\{|\}\}|\{(\w+)\}|[{}]")
_TAG = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")

Template = tuple[tuple[str, str | None], ...]
"""Pairs of literal text and the variable that follows it (None at the end)."""


@dataclass(frozen=True)
class Prompt:
    """One stage's prompt.

    Raises:
        PromptError: (from `load_prompts`) the file does not keep the rules in `docs/prompts.md`.
    """

    system: Template
    user: Template
    blocks: Mapping[str, Template]
    """By variable (`criteria`, `reasons`): the text around its value, shown when there is one."""
    output_tag: str | None
    """The reply is what stands between <output_tag> and </output_tag>; None: all of it."""
    variables: frozenset[str]
    continues: bool = False
    """Sent as the next turn of the stage before, after that stage's own prompt and reply."""
    no_change: str | None = None
    """The critic's reply that means: the chosen answer needs no change (gradient only)."""
    standing: str | None = None
    """What stands in place of the critic's reply, so that no call is made (loss, gradient)."""
    resample: bool = False
    """The request itself is sent again instead of a prompt: fresh samples (update only)."""

    def render(self, values: Mapping[str, str]) -> "Rendered":
        """The prompt's own texts with every variable replaced by its value, once.

        Args:
            values: a text for each variable in use; `criteria` and `reasons` may be empty.
        """
        blocks = {
            name: _fill(block, values) if values[name] else ""
            for name, block in self.blocks.items()
        }
        values = {**values, **blocks}
        return Rendered(system=_fill(self.system, values), user=_fill(self.user, values))


@dataclass(frozen=True)
class Rendered:
    """A prompt as text, ready to send."""

    system: str
    user: str
    before: tuple[BaseMessage, ...] = ()
    """The exchange that it continues."""

    def messages(self) -> list[BaseMessage]:
        """The messages to send; an empty system text sends no system message."""
        system: list[BaseMessage] = [SystemMessage(self.system)] if self.system else []
        return [*self.before, *system, HumanMessage(self.user)]


@dataclass(frozen=True)
class PromptSet:
    """The three prompts of a method: `tpo` sees chosen and rejected, `revision` only chosen."""

    name: str
    """As it was asked for: "tpo", "revision" or a path."""
    digest: str
    """The first 12 hex digits of a hash of the files; tells edited sets apart."""
    loss: Prompt
    gradient: Prompt
    update: Prompt
    loss_tie: Prompt
    """The loss where chosen and rejected are one text, or have one reward: nothing in it says that
    one is better. The paper has no such prompt: its continuous rewards hardly ever tie."""

    @property
    def uses_criteria(self) -> bool:
        """Whether any stage shows the person's criteria to the model."""
        return any("criteria" in p.variables for p in (self.loss, self.gradient, self.update))

    @property
    def lives_on_reasons(self) -> bool:
        """Whether the reward model's reasons are all that an update is told: no critic is called,
        and where a reward is only a number, nothing says what to change."""
        asked = self.loss.standing is None or self.gradient.standing is None
        return not asked and "reasons" in self.update.variables

    def needs_no_change(self, gradient: str) -> bool:
        """Whether the critic's reply says that the chosen answer is to stay as it is."""
        agreed = self.gradient.no_change
        return agreed is not None and _bare(gradient) == _bare(agreed)

    def render(self, stage: Stage, values: Mapping[str, str], *, tie: bool = False) -> Rendered:
        """The prompt of a stage.

        Args:
            values: what there is by then, under the names in `VARIABLES`; `loss_system` and
                `loss_user` are made here.
            tie: neither answer scored higher.
        """
        asked = self.loss_tie if tie else self.loss
        rendered = loss = asked.render(values)
        if stage != "loss":
            values = {**values, "loss_system": loss.system, "loss_user": loss.user}
            rendered = _continued(self.gradient, values, loss, asked, "loss")
        if stage == "update":
            rendered = _continued(self.update, values, rendered, self.gradient, "gradient")
        return rendered


def _continued(
    prompt: Prompt, values: Mapping[str, str], before: Rendered, asked: Prompt, reply: str
) -> Rendered:
    own = prompt.render(values)
    if not prompt.continues:
        return own
    said = values[reply] or "-"  # none came, a person went on; servers refuse empty turns
    if asked.output_tag is not None:
        said = f"<{asked.output_tag}>{said}</{asked.output_tag}>"
    return replace(own, before=(*before.messages(), AIMessage(said)))


def _bare(text: str) -> str:
    """Its letters and digits: small models add full stops, quotes and bold type."""
    return "".join(filter(str.isalnum, text.casefold()))


def load_prompts(name: str | Path) -> PromptSet:
    """Load and check a prompt set.

    Args:
        name: a set that comes with the package ("tpo", "revision"), or a folder.

    Raises:
        PromptError: the set does not exist or breaks a rule; says which file and how to fix it.
    """
    folder = _find(name)
    texts = {stage: _read(folder / f"{stage}.yaml") for stage in VARIABLES}
    prompts = {stage: _parse(texts[stage], stage, folder / f"{stage}.yaml") for stage in VARIABLES}
    for stage, before in BEFORE.items():
        if prompts[stage].continues and prompts[before].standing is not None:
            raise PromptError(
                f"{str(folder / stage)!r} continues the {before} stage, which asks nothing: "
                f"{before}.yaml has a standing text. Leave `continues` out."
            )
    tie = folder / _TIE
    own = [*texts.values(), _read(tie)] if tie.exists() else [*texts.values()]
    digest = hashlib.sha256("\0".join(own).encode()).hexdigest()[:12]
    return PromptSet(name=str(name), digest=digest, loss_tie=_tie(tie, prompts["loss"]), **prompts)


def _tie(path: Path, loss: Prompt) -> Prompt:
    """The set's own; without one the loss, if it compares nothing, else that of the set `tpo`."""
    if not path.exists() and "rejected" not in loss.variables:
        return loss
    path = path if path.exists() else data_folder("prompts") / "tpo" / _TIE
    tie = _parse(_read(path), "loss", path)
    if "rejected" in tie.variables:
        raise PromptError(
            f"{str(path)!r} uses ['rejected'], but neither answer is better there: use {{chosen}}"
        )
    return tie


def _find(name: str | Path) -> Path:
    shipped = data_folder("prompts")
    if not isinstance(cast(object, name), str | Path):
        raise PromptError(
            f"not a prompt set: {name!r:.200}. Give a name such as 'tpo', or a folder."
        )
    if isinstance(name, str) and re.fullmatch(r"[\w-]+", name) and (shipped / name).is_dir():
        return shipped / name
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    known = ", ".join(sorted(repr(path.name) for path in shipped.iterdir() if path.is_dir()))
    raise PromptError(
        f"no prompt set {str(name)!r}: it is neither one of {known} nor a folder. "
        "Name one of these, or a folder with loss.yaml, gradient.yaml and update.yaml."
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as e:
        raise PromptError(
            f"prompt file {str(path)!r} is missing; a set has loss.yaml, gradient.yaml "
            "and update.yaml"
        ) from e
    except (OSError, UnicodeDecodeError) as e:
        raise PromptError(f"prompt file {str(path)!r} cannot be read as UTF-8 text: {e}") from e


@lru_cache  # every `optimize` loads its set; reading YAML was a tenth of what a run costs
def _parse(text: str, stage: Stage, path: Path) -> Prompt:
    try:
        loaded: Any = yaml.safe_load(text)
    except yaml.YAMLError as e:
        raise PromptError(f"prompt file {str(path)!r} is not valid YAML: {e}") from e
    if not isinstance(loaded, dict):
        raise PromptError(f"prompt file {str(path)!r} must be a mapping with `user`, not {text!r}")
    fields = cast("dict[str, Any]", loaded)
    if unknown := sorted(str(key) for key in fields if key not in _KEYS):
        raise PromptError(
            f"prompt file {str(path)!r} has unknown keys {unknown!r}; known are {sorted(_KEYS)!r}"
        )
    for key in sorted(_KEYS - {"input_variables", "resample"}):
        if not isinstance(fields.get(key) or "", str):
            raise PromptError(f"{key!r} in {str(path)!r} must be text, not {fields[key]!r}")
    if any(key in fields for key in _INSTEAD):
        return _instead(fields, stage, path)
    if not (fields.get("user") or "").strip():
        raise PromptError(f"prompt file {str(path)!r} has no `user` text")
    tag = fields.get("output_tag")
    if tag is not None and not _TAG.fullmatch(tag):
        raise PromptError(
            f"output_tag {tag!r} in {str(path)!r} must be a bare name such as improved_answer"
        )
    no_change = fields.get("no_change")
    if no_change is not None and (stage != "gradient" or not _bare(no_change)):
        raise PromptError(
            f"`no_change` in {str(path)!r} must be words in gradient.yaml, which the critic replies"
        )
    continues = _check_continues(fields, stage, path)
    system = _compile(fields.get("system") or "", "system", path)
    user = _compile(fields["user"], "user", path)
    blocks = {key: _compile(fields[key], key, path) for key in _BLOCKS if fields.get(key)}
    used = _names(system) | _names(user)
    _check_variables(used, blocks, fields.get("input_variables"), stage, path)
    return Prompt(system, user, blocks, tag, frozenset(used), continues, no_change)


def _instead(fields: Mapping[str, Any], stage: Stage, path: Path) -> Prompt:
    """A stage that asks nothing: the critic's has a standing text, the update draws anew."""
    key = "resample" if stage == "update" else "standing"
    value = fields.get(key)
    if set(fields) != {key} or not (value is True or (isinstance(value, str) and value.strip())):
        what = "`resample: true`" if stage == "update" else "`standing`, a text"
        raise PromptError(
            f"{str(path)!r} has {sorted(fields)!r}: without a prompt there is only {what}"
        )
    empty: Template = (("", None),)
    standing = value if isinstance(value, str) else None
    return Prompt(empty, empty, {}, None, frozenset(), standing=standing, resample=value is True)


def _check_continues(fields: Mapping[str, Any], stage: Stage, path: Path) -> bool:
    named, before = fields.get("continues"), BEFORE.get(stage)
    if named is not None and named != before:
        can = "the loss continues nothing" if before is None else f"only {before!r} comes before it"
        raise PromptError(f"`continues: {named}` in {str(path)!r}: {can}")
    if named is not None and fields.get("system"):
        raise PromptError(
            f"{str(path)!r} continues the {named} stage, whose system text is already sent: "
            "leave `system` out"
        )
    return named is not None


def _compile(text: str, key: str, path: Path) -> Template:
    pieces: list[tuple[str, str | None]] = []
    literal, end = "", 0
    for match in _PIECE.finditer(text):
        literal += text[end : match.start()]
        end = match.end()
        if match[1]:
            pieces.append((literal, match[1]))
            literal = ""
        elif match[0] in ("{{", "}}"):
            literal += match[0][0]
        else:
            line = text.count("\n", 0, match.start()) + 1
            raise PromptError(
                f"a lone {match[0]!r} in {key!r} of {str(path)!r}, line {line} of the text, would "
                f"reach the model as it is: write {match[0] * 2!r} for a literal brace"
            )
    return (*pieces, (literal + text[end:], None))


def _names(template: Template) -> set[str]:
    return {name for _, name in template if name is not None}


def _check_variables(
    used: set[str], blocks: Mapping[str, Template], declared: object, stage: Stage, path: Path
) -> None:
    allowed = VARIABLES[stage]
    if unknown := sorted(used - allowed):
        raise PromptError(
            f"{str(path)!r} uses {unknown!r}, which do not exist in the {stage} stage; "
            f"there are {sorted(allowed)!r}"
        )
    if not isinstance(declared, list):
        raise PromptError(f"{str(path)!r} must list its `input_variables`, here {sorted(used)!r}")
    names = {str(name) for name in cast("list[object]", declared)}
    if names != used:
        raise PromptError(
            f"`input_variables` of {str(path)!r} must name what the texts use: "
            f"declared and not used {sorted(names - used)!r}, "
            f"used and not declared {sorted(used - names)!r}"
        )
    for name, block in blocks.items():
        if name not in used or _names(block) != {name}:
            raise PromptError(
                f"the `{name}` block of {str(path)!r} must use {{{name}}} and nothing else, and "
                "`system` or `user` must say where it goes"
            )


def _fill(template: Template, values: Mapping[str, str]) -> str:
    return "".join(f"{literal}{values[name] if name else ''}" for literal, name in template)
