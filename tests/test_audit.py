"""The held-out audit: over-optimisation is flagged, and undone when asked."""

from dataclasses import replace

import pytest

from tpo_graph import extend, optimize, resume
from tpo_graph.errors import ConfigurationError
from tpo_graph.testing import ScriptedChatModel, prefer_longer


def prefer_shorter(query: str, response: str) -> float:
    return -prefer_longer(query, response)


def run(audit, **options):
    options = {"depth": 2, "width": 3, **options}
    return optimize(
        "Hello?", model=ScriptedChatModel(), reward_model=prefer_longer, audit=audit, **options
    )


def test_an_auditor_that_agrees_flags_nothing():
    result = run(prefer_longer, audit_fallback=True)
    assert result.audit is not None
    assert result.audit.final == result.reward > result.audit.first
    assert not result.audit.overoptimized
    assert not result.audit.fell_back
    assert result.iteration == 2


def test_when_the_reward_rose_and_the_audit_fell_it_is_flagged():
    result = run(prefer_shorter)
    assert result.audit is not None
    assert result.audit.overoptimized
    assert not result.audit.fell_back
    assert result.audit.final < result.audit.first
    assert "prefer_shorter" in result.audit.reward_model
    assert result.iteration == 2


def test_asked_to_the_answer_falls_back_to_the_best_first_sample():
    result = run(prefer_shorter, audit_fallback=True)
    assert result.audit is not None
    assert result.audit.fell_back
    assert result.iteration == 0
    first = [c for c in result.candidates if c["iteration"] == 0]
    assert result.reward == max(c["reward"] for c in first)
    assert result.response in [c["response"] for c in first]


def test_best_of_n_has_nothing_to_flag():
    result = run(prefer_shorter, depth=0, audit_fallback=True)
    assert result.audit is not None
    assert result.audit.first == result.audit.final
    assert not result.audit.overoptimized


def test_without_an_auditor_there_is_no_audit():
    assert run(None).audit is None


def test_a_wrong_auditor_is_found_out_before_the_run():
    model = ScriptedChatModel()
    with pytest.raises(ConfigurationError, match="unknown reward model 'locl:x'"):
        optimize("Hello?", model=model, reward_model=prefer_longer, audit="locl:x")
    assert model.calls == []


def test_a_broken_auditor_leaves_the_answer_and_says_why():
    result = run(lambda q, r: float("nan"), audit_fallback=True)
    assert result.audit is None
    assert result.audit_error is not None
    assert result.audit_error.startswith("RewardError: ")
    assert "nan" in result.audit_error
    assert (result.iteration, len(result.candidates)) == (2, 9)


def test_a_resumed_run_is_audited_and_no_score_is_paid_twice(tmp_path):
    asked: list[str] = []

    def auditor(query: str, response: str) -> float:
        asked.append(response)
        return -float(len(response))

    url = f"sqlite:///{tmp_path / 'tpo.db'}"
    first = run(auditor, database=url, run_id="r")
    assert len(asked) == 2
    again = resume("r", database=url, audit=auditor, audit_fallback=True)
    assert len(asked) == 2
    assert again.audit is not None
    assert again.audit == replace(first.audit, fell_back=True)
    assert (again.iteration, first.iteration) == (0, 2)
    assert resume("r", database=url).audit is None
    deeper = extend(
        "r",
        depth=3,
        database=url,
        model=ScriptedChatModel(),
        reward_model=prefer_longer,
        audit=auditor,
    )
    assert deeper.audit is not None
    assert (len(deeper.steps), deeper.audit.final) == (4, -deeper.reward)
