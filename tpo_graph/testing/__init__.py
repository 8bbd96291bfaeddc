"""For examples, tests and your own tests: fakes, and the suite that every reward model must pass.

`RewardModelTests` stands in `tpo_graph.testing.conformance`.
"""

from tpo_graph.testing.models import (
    Script,
    ScriptedChatModel,
    draft_then_improve,
    prefer_longer,
)

__all__ = ["Script", "ScriptedChatModel", "draft_then_improve", "prefer_longer"]
