"""What a check found."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail", "skip"]
Part = Literal["policy", "reward model", "audit", "prompts"]


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    part: Part
    name: str
    """What was looked at: "keeps the tags"."""
    status: Status
    """"warn": it works, at a price; "fail": TPO will not work with this; "skip": could not tell."""
    detail: str
    """What was seen, with numbers, and what to change."""
