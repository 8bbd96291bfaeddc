"""A batch goes on as it began: other settings or models under its name are refused."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tpo_graph.context import TPOContext
from tpo_graph.errors import ConfigurationError

if TYPE_CHECKING:
    from tpo_graph.store.batches import StoredBatch


def need_unchanged(
    stored: "StoredBatch", settings: Mapping[str, Any], launch: Mapping[str, Any]
) -> None:
    """Refuse to go on with a batch under other settings than it was begun with.

    Args:
        stored: the batch.
        settings: a complete `TPOContext`.
        launch: as in `tpo_batches`.

    Raises:
        ConfigurationError: something differs; says what, and what it was.
    """
    # A setting that this version has and the one that began the batch had not, had its default.
    before = TPOContext.checked(stored["settings"]).model_dump(mode="json")
    changes = _changes(before, settings)
    names, names_before = launch["names"], stored["launch"]["names"]
    given = {k: v for k, v in launch.items() if k != "names"}
    changes += _changes({k: v for k, v in stored["launch"].items() if k != "names"}, given)
    if not changes:  # the same words, but perhaps not the same things by now
        both = names.keys() & names_before.keys()
        changes = _changes({k: names_before[k] for k in both}, {k: names[k] for k in both})
    if changes:
        raise ConfigurationError(
            f"the batch {stored['name']!r} was begun with {', '.join(changes)}. Go on with what it "
            "was begun with, give it an output or a name of its own, or begin anew with --fresh "
            "(fresh=True)."
        )


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}={before.get(name)!r}, not {after.get(name)!r}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
