"""`check_policy`: a model that plays along passes, and each weakness is called by its name."""

import pytest

from tests.openai_server import Behaviour, OpenAIServer
from tpo_graph.check import Finding, check_setup
from tpo_graph.check.probes import load_probes
from tpo_graph.context import RunOptions
from tpo_graph.prompts import load_prompts
from tpo_graph.testing import ScriptedChatModel

PROBES = load_probes().probes
RIGHT = {
    "three sentences": "Autumn is cool. Leaves turn gold. Days are short.",
    "ends with a question": "Read Moby-Dick by Herman Melville. Which books did you like?",
    "four lines": "- apple\n- pear\n- plum\n- fig",
    "uses the word": 'Smile and say "welcome".',
    "lower case": "the capital of australia is canberra.",
    "city": '{"name": "Ana", "city": "Lima"}',
}


def probe_of(messages):
    asked = "\n".join(message.text for message in messages)
    return next((probe for probe in PROBES if probe.query in asked), None)


def stage_of(messages):
    """Which call it is, told by the words of the shipped prompt set."""
    tpo = load_prompts("tpo")
    for stage in ("update", "gradient", "loss"):
        said = getattr(tpo, stage).user[-1][0].strip().splitlines()[-1]
        if said and said in messages[-1].text:
            return stage
    return "sample"


def obedient(messages, index) -> str:
    probe, stage = probe_of(messages), stage_of(messages)
    if probe is None:
        return f"A good neighbor is quiet and kind, and knows {index} of your names."
    if stage == "update":
        return f"<improved_answer>{RIGHT[probe.defect]}</improved_answer>"
    return {"loss": probe.loss, "gradient": probe.gradient}.get(stage, probe.chosen)


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
        "critic names defects": "ok",
        "keeps the tags": "ok",
        "follows instructions": "ok",
        "improves answers": "ok",
        "what this cannot judge": "skip",
    }
    assert "6 of 6" in found["critic names defects"].detail
    assert "12 of 12" in found["follows instructions"].detail
    assert "12 are better" in found["improves answers"].detail


def test_the_probes_are_what_they_say():
    assert {probe.defect for probe in PROBES} == set(RIGHT)
    for probe in PROBES:
        assert probe.met(RIGHT[probe.defect]) == len(probe.requirements)
        assert probe.finds_defect(probe.loss)
        assert probe.finds_defect(probe.gradient)
        assert not probe.finds_defect("A good answer, well written. Make it livelier.")


def with_stage(stage, reply):
    """A model that plays along but for one stage."""

    def script(messages, index):
        probe = probe_of(messages)
        if probe is not None and stage_of(messages) == stage:
            return reply(probe)
        return obedient(messages, index)

    return ScriptedChatModel(replies=script)


def tagged(text):
    return f"<improved_answer>{text}</improved_answer>"


async def test_a_critic_that_praises_is_told_from_one_that_finds():
    found = await check(with_stage("loss", lambda probe: "Lovely, and well put."))
    assert found["critic names defects"].status == "fail"
    assert "stronger model as critic" in found["critic names defects"].detail
    some = await check(
        with_stage("gradient", lambda p: p.gradient if p in PROBES[:3] else "Be livelier.")
    )
    assert some["critic names defects"].status == "warn"
    assert "3 of 6" in some["critic names defects"].detail


async def test_a_policy_that_copies_or_spoils_is_not_suited():
    found = await check(with_stage("update", lambda probe: tagged(probe.chosen)))
    assert found["follows instructions"].status == "fail"
    assert "12 copies" in found["improves answers"].detail
    assert found["improves answers"].status == "fail"  # fresh samples are as good
    assert "--depth 0" in found["improves answers"].detail
    found = await check(with_stage("update", lambda probe: tagged("?!")))
    assert found["improves answers"].status == "fail"


async def test_rewrites_that_only_match_sampling_again_are_warned_about():
    right = with_stage("sample", lambda probe: RIGHT[probe.defect])
    assert (await check(right))["improves answers"].status == "ok"
    half = with_stage("update", lambda p: tagged(p.chosen if p in PROBES[:5] else RIGHT[p.defect]))
    assert (await check(half))["improves answers"].status == "ok"
    better_fresh = ScriptedChatModel(
        replies=lambda messages, index: (
            RIGHT[probe.defect]
            if (probe := probe_of(messages)) and stage_of(messages) == "sample"
            else half.replies(messages, index)
        )
    )
    assert (await check(better_fresh))["improves answers"].status == "warn"


@pytest.mark.parametrize(("every", "status"), [(3, "warn"), (1, "fail")])
async def test_a_model_that_drops_the_tags(every, status):
    def untidy(messages, index):
        reply = obedient(messages, index)
        return reply if index % every else reply.replace("improved_answer", "aside")

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
    assert found["critic names defects"].status == "fail"
    assert "critic_max_tokens" in found["critic names defects"].detail
    assert found["follows instructions"].status == "ok"
    assert found["improves answers"].status == "fail"


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
