"""Reward models without weights: Python files, commands, unit tests, schemas, rules, votes."""

import asyncio
import json
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.openai_server import OpenAIServer
from tpo_graph import optimize
from tpo_graph.conversation import Turn
from tpo_graph.errors import ConfigurationError
from tpo_graph.rewards import load_reward_model, reuses_scores, score_each
from tpo_graph.rewards.forms import FORMS, anchored, touches
from tpo_graph.rewards.json_schema import JsonSchemaReward
from tpo_graph.rewards.self_consistency import SelfConsistency, final_answer
from tpo_graph.rewards.unit_tests import Limits, UnitTestReward, code_of
from tpo_graph.settings import Settings
from tpo_graph.testing import ScriptedChatModel

ASKED = [Turn(role="user", content="Foxes or dogs?")]


def script(path: Path, source: str) -> Path:
    path.write_text(f"#!{sys.executable}\n{source}")
    path.chmod(0o755)
    return path


def scored(model, *responses: str) -> list[tuple[float, str]]:
    scores = asyncio.run(score_each(model, ASKED, responses))
    return [(s, s.reason) if isinstance(s, float) else (s, str(s)) for s in scores]


# python:


def test_a_function_a_model_or_a_class_of_a_file(tmp_path):
    file = tmp_path / "rewards.py"
    file.write_text(
        "import helper\n"
        "def score(query, response): return helper.worth(response)\n"
        "class Own:\n"
        "    name = 'own-1'\n"
        "    async def score(self, conversation, responses): return [2.0 for _ in responses]\n"
        "made = Own()\n"
    )
    (tmp_path / "helper.py").write_text("def worth(text): return len(text)\n")
    model = load_reward_model(f"python:{file}#score")
    assert scored(model, "abc") == [(3.0, "")]
    assert model.name.startswith("python:rewards.py#score@")
    assert reuses_scores(model)
    assert load_reward_model(f"python:{file}") is not None
    assert load_reward_model(f"python:{file}#Own").name == "own-1"
    assert load_reward_model(f"python:{file}#made").name == "own-1"
    assert load_reward_model(f"python:{file}?name=mine-1#score").name == "mine-1"
    file.write_text("def score(query, response): return 7\n")
    again = load_reward_model(f"python:{file}#score")
    assert scored(again, "abc") == [(7.0, "")]
    assert again.name != model.name


@pytest.mark.parametrize(
    ("source", "attribute", "message"),
    [
        ("1/0", "score", "ZeroDivisionError"),
        ("raise SystemExit(3)", "score", "SystemExit"),
        ("def (", "score", "SyntaxError"),
        ("x = 3", "x", "'x' in .* is 3"),
        ("x = 3", "score", "has no 'score'"),
    ],
)
def test_a_file_that_is_no_reward_is_one_clear_error(tmp_path, source, attribute, message):
    file = tmp_path / "rewards.py"
    file.write_text(source)
    with pytest.raises(ConfigurationError, match=message):
        load_reward_model(f"python:{file}#{attribute}")


# tests:

TESTS = """
from solution import add
assert add(1, 2) == 3
def test_negative():
    assert add(-1, -1) == -2, "two below zero"
class Helper: pass
def test_text():
    assert add("a", "b") == "ab"
def helper_with(argument): ...
"""


def block(code: str) -> str:
    return f"Here:\n```python\n{code}\n```\nDone."


def test_the_share_of_passed_tests_and_the_first_failure():
    model = UnitTestReward(TESTS)
    good, wrong, bad, none, late = scored(
        model,
        block("def add(a, b): return a + b"),
        block("def add(a, b): return abs(a) + abs(b)"),
        block("def add(a, b)"),
        "I cannot.",
        block("import os\ndef add(a, b): os._exit(0)"),
    )
    assert good == (1.0, "")
    assert wrong[0] == pytest.approx(1 / 3)
    assert wrong[1].startswith("1 of 3 tests passed. test_negative: AssertionError: two below zero")
    assert bad[0] == none[0] == late[0] == 0
    assert "SyntaxError" in bad[1]
    assert "line 3 of tests.py: ended early" in late[1]


def test_the_code_has_limits_and_no_secrets(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    monkeypatch.chdir(tmp_path)
    model = UnitTestReward("assert f()", limits=Limits(seconds=3, memory=1 << 28))
    told = {
        "environment": "import os\nf = lambda: 'OPENAI_API_KEY' not in os.environ",
        "folder": f"import os\nf = lambda: os.getcwd() != {str(tmp_path)!r}",
        "memory": "def f():\n try: return not bytearray(1 << 30)\n except MemoryError: return 1",
        "files": "def f():\n    open('x', 'w').write('x' * (32 << 20))\n    return True",
        "output": "print('x' * 100)\nf = lambda: True",
        "time": "def f():\n    while True: pass",
        "forged": "print('{\"count\": 1}')\nimport sys\nsys.exit(0)",
    }
    scores = dict(zip(told, scored(model, *map(block, told.values())), strict=True))
    good = [what for what, (score, _) in scores.items() if score == 1]
    assert good == ["environment", "folder", "memory", "output"]
    assert "stopped after 3 s" in scores["time"][1] or "ended early" in scores["time"][1]


def test_the_code_of_a_response():
    assert code_of("```\na\n```") == "a\n"
    assert code_of("```python\na\n```\n```sh\nls\n```\n```py\nb\n```") == "a\n\nb\n"
    assert code_of("def f(): ...") == "def f(): ..."
    assert code_of("```python\ncut") == "cut"


@pytest.mark.parametrize(("tests", "message"), [("def (", "not Python"), ("x = 1", "no test in")])
def test_tests_that_are_none(tests, message):
    with pytest.raises(ConfigurationError, match=message):
        UnitTestReward(tests)


# json-schema: and regex:

SCHEMA = {
    "type": "object",
    "properties": {"age": {"type": "integer"}, "name": {"type": "string"}},
    "required": ["name", "age"],
}


def test_json_by_a_schema(tmp_path):
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(SCHEMA))
    good, fenced, wrong, none = scored(
        load_reward_model(f"json-schema:{file}"),
        '{"name": "Ann", "age": 3}',
        'Sure:\n```json\n{"name": "Ann", "age": 3}\n```',
        '{"age": "three"}',
        "Ann is three.",
    )
    assert good == fenced == (1.0, "")
    assert wrong[0] == pytest.approx(1 / 3)
    assert "'name' is a required property" in wrong[1]
    assert "$.age: 'three' is not of type 'integer'" in wrong[1]
    assert none[0] == 0
    assert "not JSON" in none[1]
    with pytest.raises(ConfigurationError, match="not a JSON schema"):
        JsonSchemaReward({"type": "nothing"})


def test_rules_by_weight_and_what_they_say(tmp_path):
    file = tmp_path / "rules.toml"
    file.write_text(
        '[[rule]]\npattern = "(?i)in summary"\nweight = 3\nmessage = "end with a summary"\n'
        '[[rule]]\npattern = "\\\\bvery\\\\b"\nforbidden = true\n'
    )
    model = load_reward_model(f"regex:{file}")
    assert scored(model, "In summary: yes.", "very good", "every") == [
        (1.0, ""),
        (0.0, "end with a summary\ncontains '\\\\bvery\\\\b'"),
        (0.25, "end with a summary"),
    ]
    file.write_text('[[rule]]\npattern = "("')
    with pytest.raises(ConfigurationError, match="not a regular expression"):
        load_reward_model(f"regex:{file}")


# self-consistency


def test_votes_are_those_of_the_first_samples():
    model = SelfConsistency()
    first = scored(model, "so 41", r"\boxed{42}", "It is 42.0", "none")
    assert [score for score, _ in first] == pytest.approx([1 / 3, 2 / 3, 2 / 3, 0.0])
    assert first[1][1] == "2 of 3 first samples have its answer, '42'"
    assert [s for s, _ in scored(model, "now 41", "43", "1,000 + 42")] == pytest.approx(
        [1 / 3, 0, 2 / 3]
    )
    assert not reuses_scores(model, tell=False)
    other = asyncio.run(model.score([Turn(role="user", content="Other?")], ["43"]))
    assert other == [1.0]


@given(st.text())
def test_any_text_has_a_final_answer_or_none(text):
    assert final_answer(f"{text}\n 7") in ("7", final_answer(text))


def test_an_answer_by_a_pattern():
    model = load_reward_model(r"self-consistency?pattern=(?i)answer: (\w)")
    assert [s for s, _ in scored(model, "Answer: B", "answer: B.", "Answer: A 7")] == pytest.approx(
        [2 / 3, 2 / 3, 1 / 3]
    )
    with pytest.raises(ConfigurationError, match="not a regular expression"):
        load_reward_model("self-consistency?pattern=(")


# names


@pytest.mark.parametrize(
    ("name", "likely"),
    [
        ("openai:gpt-5", "judge:openai:gpt-5"),
        ("Skywork/Skywork-Reward", "local:Skywork/Skywork-Reward"),
        ("rewards.py", "python:rewards.py"),
        ("regx:rules.toml", "regex:rules.toml"),
        ("opnai:gpt-5", "judge:openai:gpt-5"),
    ],
)
def test_what_was_probably_meant_is_named(name, likely):
    with pytest.raises(ConfigurationError, match=f"did you mean '{likely}'"):
        load_reward_model(name)


def test_every_form_says_what_it_touches():
    from tpo_graph.rewards.load import SCHEMES

    assert set(SCHEMES) == set(FORMS)
    assert touches("python:x.py#f") == touches("command:x") == {"files", "code"}
    assert touches("self-consistency") == frozenset()
    assert "network" in touches("vllm:http://x#y")
    assert "code" in touches("ensemble:x.toml")


def test_paths_are_relative_to_the_file_that_names_them():
    folder = Path("/a b/c")
    assert anchored("python:./r.py#f", folder) == "python:/a b/c/r.py#f"
    assert anchored("command:./s.sh -v", folder) == "command:'/a b/c/s.sh' -v"
    assert (
        anchored("judge:openai:x?rubric=./r.toml", folder) == "judge:openai:x?rubric=/a b/c/r.toml"
    )
    assert anchored("vllm:http://h?tokenizer=../t#m", folder) == "vllm:http://h?tokenizer=/a b/t#m"
    assert anchored("regex:rules.toml", folder) == "regex:rules.toml"


def test_a_run_by_a_name(tmp_path):
    (tmp_path / "rules.toml").write_text('[[rule]]\npattern = "!"')
    result = optimize(
        "Q",
        model=ScriptedChatModel(replies=["dull", "lively!"]),
        reward_model=f"regex:{tmp_path}/rules.toml",
        depth=0,
        width=2,
        database=f"sqlite:///{tmp_path}/tpo.db",
    )
    assert (result.response, result.reward) == ("lively!", 1.0)


DOCUMENTED = {
    "python:./rewards.py#score": ("one two", (-48.0, "2 words; 50 are wanted")),
    "command:./score.sh": ("My sources: none.", (1.0, "it names sources")),
    "tests:./checks.py": ("```python\ndef add(a, b): return a + b\n```", (1.0, "")),
    "json-schema:./schema.json": ('{"age": 3}', (0.5, "$: 'name' is a required property")),
    "regex:./rules.toml": ("Summary: as an AI", (2 / 3, "contains '(?i)as an ai'")),
    "self-consistency": ("42", (1.0, "1 of 1 first samples have its answer, '42'")),
}


def documented(folder: Path) -> None:
    """Write the files that docs/rewards.md shows."""
    text = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text()
    for name, content in re.findall(
        r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```", text, re.MULTILINE | re.DOTALL
    ):
        (folder / name).write_text(content)
        (folder / name).chmod(0o755)


@pytest.mark.parametrize("spec", DOCUMENTED)
def test_what_the_documentation_shows(tmp_path, spec):
    documented(tmp_path)
    (tmp_path / "tpo.toml").write_text(f"reward_model = {spec!r}\n")
    name = Settings.load({}, tmp_path / "tpo.toml").reward_model_name()
    response, expected = DOCUMENTED[spec]
    [(score, reason)] = scored(load_reward_model(name), response)
    assert (score, reason) == (pytest.approx(expected[0]), expected[1])


def test_the_documented_rubric_reaches_the_critic(tmp_path, monkeypatch):
    documented(tmp_path)
    said = {"sources": "None is named.", "brief": "Short."}
    reply = json.dumps({"reasons": said, "scores": {"sources": 1, "brief": 10}})
    with OpenAIServer(lambda messages, seed, index: reply) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-123456")
        model = load_reward_model(f"judge:openai:big?rubric={tmp_path}/rubric.toml")
        assert scored(model, "a") == [(4.0, "sources 1: None is named.\nbrief 10: Short.")]
        (tmp_path / "rubric.toml").write_text('[[criteria]]\nname = "a"\ndescription = "b"\n')
        again = load_reward_model(f"judge:openai:big?rubric={tmp_path}/rubric.toml")
        assert again.name != model.name
