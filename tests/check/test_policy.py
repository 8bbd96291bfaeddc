"""`check_policy`: a model that plays along passes, and each weakness is called by its name."""

import pytest

from tests.openai_server import Behaviour, OpenAIServer
from tpo_graph.check import Finding, check_setup
from tpo_graph.check.critiques import CRITIQUES
from tpo_graph.context import RunOptions
from tpo_graph.testing import ScriptedChatModel

FOLLOWED = {
    "Australia": "**Canberra** is the capital, a compromise between Sydney and Melbourne.",
    "boil an egg": "1. Boil water.\n2. Lower the egg into it.\n3. Wait.",
    "about the sea": "Moby-Dick, about a whale. Which books did you like?",
}


def obedient(messages, index) -> str:
    prompt = messages[-1].text
    if "</improved_answer>" not in prompt:
        return f"A good neighbor is quiet and kind, and knows {index} of your names."
    [answer] = [answer for key, answer in FOLLOWED.items() if key in messages[1].text]
    return f"<improved_answer>{answer}</improved_answer>"


async def check(model, critic=None, **options) -> dict[str, Finding]:
    setup = {"model": model, "critic": critic, "options": RunOptions(**options)}
    found = [finding async for finding in check_setup(**setup)]
    return {finding.name: finding for finding in found if finding.part == "policy"}


async def test_a_model_that_plays_along_passes_everything():
    found = await check(ScriptedChatModel(replies=obedient), width=3)
    assert {name: finding.status for name, finding in found.items()} == {
        "answers": "ok",
        "honours n": "ok",
        "samples differ": "ok",
        "returns usage": "ok",
        "writes critiques": "ok",
        "keeps the tags": "ok",
        "follows a critique": "ok",
    }
    assert "6 of 6" in found["follows a critique"].detail


def test_the_answers_given_to_the_critiques_do_not_follow_them_already():
    for task in CRITIQUES:
        assert not task.followed(task.chosen)
        [answer] = [answer for key, answer in FOLLOWED.items() if key in task.query]
        assert task.followed(answer)


@pytest.mark.parametrize(("follows", "status"), [(3, "ok"), (2, "ok"), (1, "warn"), (0, "fail")])
async def test_a_model_that_ignores_critiques(follows, status):
    def stubborn(messages, index):
        heeded = [
            task for task in CRITIQUES[:follows] if any(task.query in m.text for m in messages)
        ]
        same = "<improved_answer>The same as before.</improved_answer>"
        return (
            obedient(messages, index) if heeded or "</improved" not in messages[-1].text else same
        )

    found = await check(ScriptedChatModel(replies=stubborn))
    assert found["follows a critique"].status == status
    assert f"{2 * follows} of 6" in found["follows a critique"].detail


@pytest.mark.parametrize(("every", "status"), [(3, "warn"), (1, "fail")])
async def test_a_model_that_drops_the_tags(every, status):
    def untidy(messages, index):
        reply = obedient(messages, index)
        return reply if index % every else reply.replace("improved_answer", "answer")

    assert (await check(ScriptedChatModel(replies=untidy)))["keeps the tags"].status == status


async def test_samples_that_are_all_the_same_fail_and_one_sample_is_no_fault():
    found = await check(ScriptedChatModel(replies=["Kindness."]))
    assert found["samples differ"].status == "fail"
    assert "temperature" in found["samples differ"].detail
    found = await check(ScriptedChatModel(replies=["Kindness."]), width=1)
    assert "samples differ" not in found
    assert "honours n" not in found


async def test_empty_answers_end_the_check():
    found = await check(ScriptedChatModel(replies=[""]))
    assert {name: finding.status for name, finding in found.items()} == {"answers": "fail"}


async def test_the_critic_is_asked_for_the_critiques():
    silent = ScriptedChatModel(replies=["  "])
    found = await check(ScriptedChatModel(replies=obedient), critic=silent)
    assert found["writes critiques"].status == "fail"
    assert "critic_max_tokens" in found["writes critiques"].detail
    assert found["follows a critique"].status == "ok"


@pytest.fixture
def server(monkeypatch):
    with OpenAIServer(lambda messages, seed, index: f"Kindness {seed} {index}.") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-123456")
        yield server


async def test_a_server_that_ignores_n_costs_more(server):
    server.rule = lambda call: Behaviour(choices=1)
    found = await check("openai:tiny", width=3)
    assert found["honours n"].status == "warn"
    assert "3 samples took 3 requests" in found["honours n"].detail


async def test_a_server_that_fails_is_one_finding_without_keys(server):
    told = {"message": "no such key sk-canary-123456"}
    server.rule = lambda call: Behaviour(status=401, error=told)
    found = await check("openai:tiny")
    assert [finding.status for finding in found.values()] == ["fail"]
    assert "canary" not in found["answers"].detail


async def test_a_model_without_usage_is_warned_about():
    class Silent(ScriptedChatModel):
        def _generate(self, *args, **kwargs):
            result = super()._generate(*args, **kwargs)
            result.llm_output = None
            return result

    assert (await check(Silent(replies=obedient)))["returns usage"].status == "warn"


async def test_an_unknown_model_is_one_finding():
    found = await check("openai:")
    assert [finding.status for finding in found.values()] == ["fail"]
