"""A batch is resumed as it began; only the limits of failed rows may change, by a retry."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tpo_graph.context import LIMITS, TPOContext
from tpo_graph.errors import ConfigurationError

if TYPE_CHECKING:
    from tpo_graph.store.batches import StoredBatch


def need_unchanged(
    stored: "StoredBatch",
    settings: Mapping[str, Any],
    launch: Mapping[str, Any],
    *,
    retry_failed: bool = False,
) -> dict[str, Any]:
    """Refuse to resume a batch under other settings than it was begun with.

    Args:
        settings: a complete `TPOContext`.
        retry_failed: whether failed rows are retried, which may be under other `LIMITS`.

    Returns:
        The limits that differ, with their new values.

    Raises:
        ConfigurationError: something differs; says what, and what it was.
    """
    # A setting that this version has and the one that began the batch had not, had its default.
    before = TPOContext.checked(stored["settings"]).model_dump(mode="json")
    limits = {n: settings[n] for n in LIMITS if settings[n] != before[n]} if retry_failed else {}
    changes = _changes(before, {**settings, **{name: before[name] for name in limits}})
    names, names_before = launch["names"], stored["launch"]["names"]
    given = {k: v for k, v in launch.items() if k != "names"}
    changes += _changes({k: v for k, v in stored["launch"].items() if k != "names"}, given)
    if not changes:  # the same words, but perhaps not the same things by now
        both = names.keys() & names_before.keys()
        changes = _changes({k: names_before[k] for k in both}, {k: names[k] for k in both})
    if changes:
        hint = " To retry only the failed rows under other limits, add --retry-failed "
        hint += "(retry_failed=True)."
        of_limits = any(before[name] != settings[name] for name in LIMITS)
        raise ConfigurationError(
            f"the batch {stored['name']!r} was begun with {', '.join(changes)}. "
            "Resume it with what it was begun with, give it an output or a name of its own, or "
            f"start over with --fresh (fresh=True).{hint if of_limits and not retry_failed else ''}"
        )
    return limits


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}={before.get(name)!r}, not {after.get(name)!r}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
