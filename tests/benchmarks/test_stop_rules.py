"""A stop rule replayed on a full run ends it where a run with that rule ends."""

import pytest

from benchmarks.stop_rules import stops_at
from tpo_graph import TPOResult, optimize
from tpo_graph.testing import ScriptedChatModel, draft_then_improve
from tpo_graph.testing.models import Script

DEPTH = 5
GAINS = (0.0, 3.0, 3.5, 4.2, 6.0, 6.2)


def uneven(query: str, response: str) -> float:
    """Rises with the number of rewrites, by much or by little; the very first sample is worst."""
    return GAINS[response.count("!")] - ("(0)" in response)


def idle_after_two() -> Script:
    """From the third update on the answer is written as it was."""

    def script(messages, index):
        reply = draft_then_improve(messages, index)
        return reply.replace("!!!", "!!") if reply.startswith("<improved") else reply

    return script


class Counted(ScriptedChatModel):
    """A scripted model whose provider counts tokens."""

    def _generate(self, messages, *args, **kwargs):
        result = super()._generate(messages, *args, **kwargs)
        result.llm_output = {"token_usage": {"prompt_tokens": 50, "completion_tokens": 20}}
        return result


def run(script: Script, **settings) -> TPOResult:
    return optimize(
        "Say hello.",
        model=Counted(replies=script),
        reward_model=uneven,
        width=2,
        seed=1,
        **settings,
    )


@pytest.mark.parametrize("script", [draft_then_improve, idle_after_two()], ids=["rising", "idle"])
@pytest.mark.parametrize(
    "settings",
    [
        {"depth": 0},
        {"depth": 3},
        {"target_reward": 3.5},
        {"target_reward": 99.0},
        {"patience": 1},
        {"patience": 1, "min_gain": 1.0},
        {"patience": 2, "min_gain": 1.0},
        {"stop_on_same_pair": True},
        {"max_total_tokens": 500},
        {"max_total_tokens": 10_000},
    ],
    ids=str,
)
def test_a_replayed_rule_stops_where_the_rule_stops(script, settings):
    whole = run(script, depth=DEPTH)
    assert len(whole.history) == DEPTH + 1
    stopped = run(script, **({"depth": DEPTH} | settings))
    assert stops_at(whole.history, whole.candidates, settings) == stopped.history[-1]["iteration"]
