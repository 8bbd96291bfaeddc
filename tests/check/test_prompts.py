"""`check_prompts`: lengths in tokens against the context window."""

import shutil

import pytest
from langchain_openai import ChatOpenAI

from tests.openai_server import OpenAIServer
from tests.tiny_models import causal_lm
from tpo_graph.check import check_setup
from tpo_graph.check.prompts import check_prompts
from tpo_graph.context import RunOptions
from tpo_graph.models.load import load_chat_model
from tpo_graph.prompts import load_prompts
from tpo_graph.testing import ScriptedChatModel

FITS = "fits the context window"


def check(policy=None, window=None, prompts="tpo", **options):
    found = check_prompts(load_prompts(prompts), policy, RunOptions(**options), window)
    return {finding.name: finding for finding in found}


def test_the_window_decides():
    limits = {"max_tokens": 1000, "critic_max_tokens": 2000}
    assert check(window=20_000, **limits)[FITS].status == "ok"
    # Gradient: chosen, loss and the reply come to 5,000 and the prompt's own.
    tight = check(window=5_050, **limits)[FITS]
    assert tight.status == "warn"
    assert "gradient needs up to 51" in tight.detail
    too_small = check(window=2_100, **limits)[FITS]
    assert too_small.status == "fail"
    assert "lower critic_max_tokens" in too_small.detail
    assert check(window=200, max_tokens=1, critic_max_tokens=100)[FITS].status == "fail"


def test_an_unknown_window_or_limit_is_not_guessed():
    assert check(ScriptedChatModel())[FITS].status == "skip"
    assert "--context-window" in check()[FITS].detail
    assert check(window=9_000, max_tokens=None)[FITS].status == "skip"


def test_the_window_comes_from_the_models_profile():
    policy = ScriptedChatModel(profile={"max_input_tokens": 1_000_000})
    assert check(policy)[FITS].status == "ok"
    assert "1000000" in check(policy)[FITS].detail


def test_a_local_models_tokenizer_counts_and_its_window_is_known():
    policy = load_chat_model(f"local:{causal_lm(max_positions=2000)}")
    found = check(policy, max_tokens=10, critic_max_tokens=10)
    assert found["length"].detail.startswith("tokens of their own: loss ")
    assert found[FITS].status == "ok"
    assert "of 2000" in found[FITS].detail
    assert check()["length"].detail.startswith("about tokens")


def test_a_quoted_exchange_counts_with_what_it_quotes(tmp_path, root):
    folder = tmp_path / "nested"
    shutil.copytree(root / "prompts" / "tpo", folder)
    (folder / "gradient.yaml").write_text(
        "input_variables: [loss_user, loss]\nuser: '{loss_user} {loss}'\n"
    )
    plain = check(window=100_000, max_tokens=1000, critic_max_tokens=1)[FITS].detail
    (folder / "update.yaml").write_text(
        "input_variables: [loss_user]\noutput_tag: better\nuser: '{loss_user}{loss_user}'\n"
    )
    nested = check(window=100_000, max_tokens=1000, critic_max_tokens=1, prompts=str(folder))
    assert "loss needs up to 2" in plain
    assert "update needs up to 5" in nested[FITS].detail


@pytest.mark.parametrize("prompts", ["tpo", "revision"])
def test_the_shipped_sets_are_right_and_short(prompts):
    found = check(window=131_072, prompts=prompts)
    assert all(finding.status == "ok" for finding in found.values())
    assert "conversation" in found["variables"].detail


async def test_a_set_that_is_wrong_is_one_finding():
    found = [f async for f in check_setup(prompts="no/such/set", reward_model=lambda q, r: 1.0)]
    assert [(f.part, f.name, f.status) for f in found] == [("prompts", "loads", "fail")]


@pytest.mark.parametrize(
    ("told", "seen"),
    [
        ({"max_model_len": 4096}, "of 4096"),
        ({"meta": {"n_ctx": 1024}}, "of 1024"),
        ({"context_length": None}, "--context-window"),
    ],
)
async def test_the_window_is_what_the_server_tells_of_the_model(told, seen):
    with OpenAIServer() as server:
        server.models = [
            {"id": "other", "object": "model", "created": 1, "owned_by": "x", "max_model_len": 9},
            {"id": "a:7b", "object": "model", "created": 1, "owned_by": "x", **told},
        ]
        policy = ChatOpenAI(model="a:7b", base_url=server.url, api_key="none")
        options = RunOptions(max_tokens=100, critic_max_tokens=100)
        found = [f async for f in check_setup(model=policy, options=options)]
    assert seen in next(f.detail for f in found if f.name == FITS)
