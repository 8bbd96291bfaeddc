"""Reward models that are programs: what they are given, what they may say, how they end."""

import sys
import time

import pytest

from tests.rewards.test_kinds import scored, script
from tpo_graph.errors import ConfigurationError, RewardError, RewardInputError
from tpo_graph.rewards import load_reward_model

ECHO = """
import json, sys
asked = json.load(sys.stdin)
answer = asked["response"]
if answer == "fail":
    sys.exit("first\\nno such answer")
if answer == "sleep":
    import time; time.sleep(60)
if answer == "words":
    print("seven")
else:
    print(json.dumps({"score": len(answer), "reason": asked["conversation"][-1]["content"]}))
"""


def test_a_program_gets_no_keys_but_those_that_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    monkeypatch.setenv("TPO_OTHER", "canary")
    source = (
        "import json, os\nprint(json.dumps({'score': 1, 'reason': ' '.join(sorted(os.environ))}))\n"
    )
    program = script(tmp_path / "score", source)
    ((_, seen),) = scored(load_reward_model(f"command:{program}"), "a")
    assert "PATH" in seen.split()
    assert not {"OPENAI_API_KEY", "TPO_OTHER"} & set(seen.split())
    ((_, seen),) = scored(load_reward_model(f"command:{program}?env=OPENAI_API_KEY"), "a")
    assert {"PATH", "OPENAI_API_KEY"} <= set(seen.split())
    with pytest.raises(ConfigurationError, match="NO_SUCH_KEY"):
        load_reward_model(f"command:{program}?env=NO_SUCH_KEY")


def test_a_command_reads_json_and_prints_a_number_or_a_score(tmp_path):
    program = script(tmp_path / "score it.py", ECHO)
    model = load_reward_model(f"command:'{program}' --strict")
    assert scored(model, "abc", "half \ud83c") == [(3.0, "Foxes or dogs?"), (6.0, "Foxes or dogs?")]
    number = script(tmp_path / "number.py", "print(0.25)")
    assert scored(load_reward_model(f"command:{number}"), "a") == [(0.25, "")]
    before = load_reward_model(f"command:{number}").name
    script(number, "print(0.5)")
    assert load_reward_model(f"command:{number}").name != before


def test_a_command_that_fails_for_one_response_costs_no_other_its_score(tmp_path):
    model = load_reward_model(f"command:{script(tmp_path / 'score', ECHO)}?timeout=2")
    good, failed, slow, words = scored(model, "abc", "fail", "sleep", "words")
    assert good == (3.0, "Foxes or dogs?")
    for (error, told), expected in (
        (failed, "failed with status 1: 'no such answer'"),
        (slow, "took longer than 2 s"),
        (words, "printed 'seven'"),
    ):
        assert isinstance(error, RewardInputError)
        assert expected in told


def test_a_command_leaves_nothing_running(tmp_path):
    sign = tmp_path / "alive"
    child = f"import time; time.sleep(1.5); open({str(sign)!r}, 'w')"
    source = (
        f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {child!r}])\nprint(1)"
    )
    model = load_reward_model(f"command:{script(tmp_path / 'leaky', source)}")
    started = time.monotonic()
    assert scored(model, "a") == [(1.0, "")]
    assert time.monotonic() - started < 1.5
    time.sleep(2)
    assert not sign.exists()


def test_a_command_that_is_not_there(tmp_path):
    (tmp_path / "plain").write_text("")
    for spec in (f"{tmp_path}/none", f"{tmp_path}/plain", "'", f"{sys.executable}?timeout=-1"):
        with pytest.raises(ConfigurationError):
            load_reward_model(f"command:{spec}")


def test_a_command_that_cannot_run_is_an_error_for_all(tmp_path):
    program = tmp_path / "gone"
    script(program, "print(1)")
    model = load_reward_model(f"command:{program}")
    program.unlink()
    with pytest.raises(RewardError, match="cannot be run"):
        scored(model, "a", "b")
