"""The offline example's micro world: its edits, tastes, split, texts, and the weights beside it."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from random import Random
from types import ModuleType

import pytest

from tpo_graph import TPOContext, create_tpo_graph
from tpo_graph.settings import Settings
from tpo_graph.testing import prefer_longer

OFFLINE = Path(__file__).parent.parent / "examples" / "offline"
MODELS = OFFLINE / "models"
REPLIES = 300


@pytest.fixture(scope="module", autouse=True)
def offline_modules():
    """The example's modules import each other by name, as when `train.py` is run."""
    before = set(sys.modules)
    sys.path.insert(0, str(OFFLINE))
    yield
    sys.path.remove(str(OFFLINE))
    for name in set(sys.modules) - before:
        if str(OFFLINE) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def load(name: str) -> ModuleType:
    return importlib.import_module(name)


def replies(seed: int):
    """Many (query, reply) pairs of every lean."""
    world, random = load("world"), Random(seed)
    for _ in range(REPLIES):
        query = world.sample_query(random)
        yield query, world.sample_reply(random, query, random.random(), random.random())


def test_a_written_reply_reads_back_as_itself():
    world = load("world")
    for _, reply in replies(1):
        assert world.read(world.write(reply)) == reply


def test_words_that_no_reply_holds_are_counted():
    world = load("world")
    assert world.read("Hi Ann! Blah blah.").junk == 2
    assert world.read("The lamp ships today, tested for leaks.").slots == ()


def test_held_out_combinations_are_a_tenth_and_never_trained_on():
    world, data = load("world"), load("data")
    random = Random(2)
    assert not any(world.sample_query(random).held_out for _ in range(200))
    assert all(world.sample_query(random, held_out=True).held_out for _ in range(50))
    share = sum(
        world.Query("Ann", "Abel", topic, (a, b, c)).held_out
        for topic in world.TOPICS
        for i, a in enumerate(world.ITEMS)
        for j, b in enumerate(world.ITEMS[:i])
        for c in world.ITEMS[:j]
    ) / (len(world.TOPICS) * 220)
    assert 0.07 < share < 0.13
    held = world.sample_query(random, held_out=True)
    texts = [text for pair in islice(data.policy_examples(3), 2000) for text in pair]
    assert not any(held.text in text for text in texts)


def test_the_split_ignores_the_order_of_the_items_and_the_writer():
    world = load("world")
    one = world.Query("Ann", "Abel", "late parcel", ("lamp", "mug", "rug"), 0)
    two = world.Query("Bob", "Pope", "late parcel", ("rug", "lamp", "mug"), 1)
    assert one.held_out == two.held_out


def test_every_possible_edit_changes_the_reply_and_is_then_done():
    edits, random = load("edits"), Random(4)
    for query, reply in replies(4):
        for edit in edits.possible(query, reply):
            after = edits.apply(random, query, reply, edit)
            assert after != reply, edit
            assert edit not in edits.possible(query, after), edit


def test_edits_move_the_axis_that_they_serve_in_its_direction():
    edits, taste, random = load("edits"), load("taste"), Random(5)
    for query, reply in replies(5):
        if taste.flaws(query, reply):
            continue
        for edit in edits.possible(query, reply):
            axis, sign = edit.serves
            after = edits.apply(random, query, reply, edit)
            weights = taste.Taste({name: float(name == axis) for name in taste.AXES})
            assert (weights.score(query, after) - weights.score(query, reply)) * sign > 0, edit


def test_a_removal_of_what_is_not_there_changes_nothing():
    edits, world, random = load("edits"), load("world"), Random(6)
    for query, reply in replies(6):
        absent = world.other(random, world.ITEMS, *(slot.about for slot in reply.slots))
        stranger = world.other(random, world.FIRST, query.first)
        for edit in (edits.Edit("cut", absent), edits.Edit("drop_thanks", stranger)):
            assert edits.apply(random, query, reply, edit) == reply


def test_what_a_taste_wants_is_what_its_score_rewards():
    edits, taste, random = load("edits"), load("taste"), Random(7)
    for query, reply in replies(7):
        for gold in taste.GOLD.values():
            wanted = edits.wanted(query, reply, gold.weights)
            better = edits.obey(random, query, reply, wanted)
            assert not wanted or gold.score(query, better) > gold.score(query, reply)


def test_the_two_tastes_are_opposed_in_tone_and_depth_and_agree_on_slips():
    world, taste = load("world"), load("taste")
    brief, warm = taste.GOLD["brief"], taste.GOLD["warm"]
    query = world.Query("Ann", "Abel", "late parcel", ("lamp", "mug", "rug"))
    short = "Dear Ann Abel, The lamp ships today. The mug ships today. The rug ships today."
    kind = (
        "Hi Ann! I am so sorry about the late parcel. The lamp ships today, with a new bulb. "
        "The mug ships today, wrapped in paper. The rug ships today, rolled and taped."
    )
    assert brief.score(query, short) > brief.score(query, kind)
    assert warm.score(query, kind) > warm.score(query, short)
    for gold in (brief, warm):
        assert gold.score(query, short) > gold.score(query, short.replace("Ann", "Bob"))
        assert gold.score(query, short) > gold.score(query, short + " The vase ships today.")
        assert gold.score(query, short) > gold.score(query, short + " Blah blah blah blah.")


def test_the_critic_is_taught_every_reason_and_each_as_often_as_its_opposite():
    critique, world, random = load("critique"), load("world"), Random(8)
    counts = dict.fromkeys(critique.REASONS, 0)
    for _ in range(1500):
        pair = critique.sample_pair(random, world.sample_query(random))
        assert pair.taste.score(pair.query, pair.chosen) > pair.taste.score(
            pair.query, pair.rejected
        )
        for reason in critique.reasons(pair):
            counts[reason] += 1
    for axis in ("tone", "depth", "cover"):
        assert 0.75 < counts[axis, 1] / counts[axis, -1] < 1.33, counts


def test_a_reason_always_points_the_way_the_pair_differs():
    critique, taste, world, random = load("critique"), load("taste"), load("world"), Random(9)
    for _ in range(300):
        pair = critique.sample_pair(random, world.sample_query(random))
        for axis, sign in critique.reasons(pair):
            weights = dict.fromkeys(taste.AXES, 0.0) | {axis: float(sign)}
            side = taste.Taste(weights, pair.taste.tone)
            gap = side.score(pair.query, pair.chosen) - side.score(pair.query, pair.rejected)
            assert gap > 0


def test_examples_and_pairs_are_the_same_for_the_same_seed():
    data = load("data")
    for stream in (data.policy_examples, lambda seed: data.preference_pairs(seed, "warm")):
        first, again, other = (list(islice(stream(seed), 100)) for seed in (1, 1, 2))
        assert first == again != other


def test_preference_pairs_are_ordered_by_gold():
    data, taste, world = load("data"), load("taste"), load("world")
    random, queries = Random(0), {}
    for _ in range(4000):
        query = world.sample_query(random)
        queries[query.text] = query
    for text, better, worse in islice(data.preference_pairs(1, "brief"), 200):
        if text in queries:
            gold = taste.GOLD["brief"]
            assert gold.score(queries[text], better) > gold.score(queries[text], worse)


@pytest.mark.parametrize("name", ["policy", "reward-brief", "reward-warm", "reward-weak"])
def test_the_committed_models_load_from_safetensors_with_a_chat_template(name: str):
    transformers = pytest.importorskip("transformers")
    kind = "CausalLM" if name == "policy" else "SequenceClassification"
    model, report = getattr(transformers, f"AutoModelFor{kind}").from_pretrained(
        MODELS / name, use_safetensors=True, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert str(model.dtype) == "torch.float32"
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODELS / name)
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)
    assert model.config.pad_token_id == tokenizer.pad_token_id
    if name != "policy":
        assert model.config.num_labels == 1


def test_the_committed_weights_are_small():
    files = [path for path in MODELS.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".jinja"}
    assert sum(path.stat().st_size for path in files) < 16_000_000


def test_the_queries_of_the_demo_are_held_out():
    world = load("world")
    lines = (OFFLINE / "queries.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3
    for line in lines:
        topic = next(topic for topic in world.TOPICS if topic in line)
        items = tuple(item for item in world.ITEMS if f"the {item}" in line)
        assert world.Query("", "", topic, items).held_out


def test_the_league_and_the_study_sample_as_the_demo_does():
    sampling = load("arms").sampling()
    demo = Settings.load({}, OFFLINE / "tpo.toml")
    assert {"temperature", "critic_max_tokens"} <= sampling.keys()
    assert sampling == {name: getattr(demo, name) for name in sampling}
    TPOContext(**sampling)


async def test_the_tokens_of_many_runs_side_by_side_are_counted(monkeypatch: pytest.MonkeyPatch):
    batched = load("batched")
    monkeypatch.setattr(batched, "PAUSE", 0.01)
    policy = batched.ChatBatched(path=str(MODELS / "policy"))
    graph = create_tpo_graph(policy, prefer_longer)
    query = (OFFLINE / "queries.txt").read_text(encoding="utf-8").splitlines()[0]
    context = TPOContext(depth=0, width=2, max_tokens=20)
    state = await graph.ainvoke({"messages": [("user", query)]}, context=context)
    assert state["usage"]["sample"]["prompt_tokens"] > 10
    assert 10 < state["usage"]["sample"]["completion_tokens"] <= 40


@pytest.mark.slow
def test_a_killed_league_resumes_and_repeats_no_finished_part(tmp_path: Path):
    store = tmp_path / "league.jsonl"
    command = [sys.executable, str(OFFLINE / "league.py"), "--store", str(store)]
    command += ["--queries", "2", "--chunk", "1", "--processes", "1", "--tastes", "brief"]
    first = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    while not store.is_file() or len(store.read_text().splitlines()) < 2:
        assert first.poll() is None
        time.sleep(0.1)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    kept = store.read_text()
    again = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    assert store.read_text().startswith(kept)
    parts = [json.loads(line) for line in store.read_text().splitlines() if line]
    keys = [(part["first"], part["taste"], part["method"]) for part in parts]
    assert len(keys) == len(set(keys))
    assert "| TPO | 2.0 |" in again.stdout


@pytest.mark.slow
def test_training_runs_from_nothing_to_models_that_load(tmp_path: Path):
    command = [sys.executable, str(OFFLINE / "train.py"), "--quick", "--out", str(tmp_path)]
    subprocess.run(command, check=True, timeout=300, capture_output=True)
    for name in ("policy", "reward-brief", "reward-warm", "reward-weak"):
        config = json.loads((tmp_path / name / "config.json").read_text())
        assert config["dtype"] == "float32"
        assert (tmp_path / name / "model.safetensors").stat().st_size < 4_000_000
