"""`compare`: numbers that follow from the stored runs, going on, failures, what is refused."""

import re
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl

from tests.evaluation.world import QUERIES, SeededModel, bench
from tpo_graph.errors import ConfigurationError, RewardInputError, TPOError
from tpo_graph.evaluation.compare import compare, told_apart
from tpo_graph.evaluation.judging import Judge
from tpo_graph.evaluation.results import Comparison, dump, load
from tpo_graph.rewards.pairwise import PairwiseJudge
from tpo_graph.store import open_store
from tpo_graph.store.trajectory import read_trajectory
from tpo_graph.testing import ScriptedChatModel


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'tpo.db'}"


async def compared(database: str, methods: Any = ("tpo", "best-of-n"), **options: Any):
    own = {k: options.pop(k) for k in ("budget", "judge", "audit", "on_verdict") if k in options}
    async with bench(database, **options) as opened:
        return await compare(opened, methods, **own)


def of(comparison: Comparison, first: str, second: str):
    return next(p for p in comparison.pairs if (p.first, p.second) == (first, second))


async def test_numbers_follow_from_the_stored_runs(database: str, tmp_path: Path):
    found = await compared(database, ("tpo", "revision", "best-of-n"))
    dump(found, tmp_path)
    assert load(tmp_path) == found
    assert [result.method.label for result in found.methods] == [
        "TPO D1-N3",
        "Revision D1-N3",
        "best-of-6",
    ]
    assert (found.prompts, found.bad_rows, found.seeds) == (3, 0, [0, 1])
    tpo = found.result("tpo")
    assert [seed.batch for seed in tpo.seeds] == ["trial/tpo/seed-0", "trial/tpo/seed-1"]
    async with open_store(database) as store:
        for result in found.methods:
            assert (result.finished, result.failed) == (6, 0)
            for answer in result.answers:
                stored = await read_trajectory(store, answer.run_id)
                candidates = stored["candidates"]
                assert answer.reward == max(c["reward"] for c in candidates)
                assert answer.length == answer.reward  # the reward is the length
                first = [c["reward"] for c in candidates if c["iteration"] == 0]
                assert answer.first == max(first[:3])
                calls = [u for s, u in stored["usage"].items() if s != "reward_score"]
                tokens = sum(u["prompt_tokens"] + u["completion_tokens"] for u in calls)
                assert answer.tokens == tokens
            assert result.reward is not None
            assert result.reward.value == pytest.approx(fmean(a.reward for a in result.answers))
            assert result.gain is not None
            gains = [a.reward - a.first for a in result.answers]
            assert result.gain.value == pytest.approx(fmean(gains))
            assert result.tokens is not None
            assert result.cost is not None
            assert result.cost.tokens == pytest.approx(result.tokens.value)
            assert result.cost.samples == 6
    assert tpo.cost is not None
    assert tpo.cost.requests == 4
    assert tpo.cost.pflops == pytest.approx(0.28468 * (3 + 2 * 5), abs=0.001)
    lead = of(found, "tpo", "best-of-6").reward
    best = {(a.row_id, a.seed): a.reward for a in found.result("best-of-6").answers}
    gaps = [a.reward - best[a.row_id, a.seed] for a in tpo.answers]
    assert lead is not None
    assert lead.value == pytest.approx(fmean(gaps))
    (rate,) = of(found, "tpo", "best-of-6").win_rates
    assert (rate.by, rate.wins) == ("reward", sum(gap > 0 for gap in gaps))
    assert rate.wins + rate.ties + rate.losses == 6
    assert [(p.first, p.second) for p in found.pairs] == [
        ("tpo", "revision"),
        ("tpo", "best-of-6"),
        ("revision", "best-of-6"),
    ]
    assert "TPO D1-N3 and best-of-6 began with the same 3 samples in 6 of 6 runs." in found.notes
    assert any("take at least 20, better hundreds" in note for note in found.notes)


async def test_the_same_call_goes_on_and_pays_for_nothing_again(database: str):
    model = SeededModel()
    first = await compared(database, model=model)
    calls = len(model.calls)
    again = await compared(database, model=model)
    assert len(model.calls) == calls
    assert again.methods == first.methods
    # More prompts and another method are added to what is there.
    more = await compared(
        database, ("tpo", "best-of-n", "revision"), model=model, rows=[*QUERIES, "New?"]
    )
    assert more.result("tpo").finished == 8
    assert more.result("tpo").answers[0] in first.result("tpo").answers
    fewer = await compared(database, model=model, limit=2)
    assert fewer.result("tpo").finished == 4


async def test_a_stopped_comparison_goes_on(database: str):
    control, model = RunControl(), SeededModel()

    def stop(name: str, progress: Any) -> None:
        if "best-of" in name:
            control.request_drain("SIGTERM")

    with pytest.raises(GraphDrained):
        await compared(database, model=model, control=control, on_progress=stop, max_in_flight=1)
    calls = len(model.calls)
    assert calls < 6 * 4 + 6
    assert (await compared(database, model=model)).result("best-of-6").finished == 6
    assert len(model.calls) == 6 * 4 + 6


async def test_failed_rows_are_counted_and_in_no_pair(database: str):
    failing = SeededModel(broken="How {so}?")
    found = await compared(database, model=failing)
    tpo = found.result("tpo")
    assert (tpo.finished, tpo.failed) == (4, 2)
    assert [seed.failed for seed in tpo.seeds] == [1, 1]
    assert of(found, "tpo", "best-of-6").prompts == 2
    (note,) = [note for note in found.notes if note.startswith("TPO D1-N3: 2 of 6 runs failed")]
    assert "no answer to this one" in note
    mixed = await compared(database, ("tpo", "revision"))
    assert mixed.result("revision").finished == 6
    assert of(mixed, "tpo", "revision").prompts == 2
    assert [rate.wins + rate.ties + rate.losses for rate in mixed.pairs[0].win_rates] == [4]
    mended = await compared(database, retry_failed=True)
    assert mended.result("tpo").failed == 0
    with pytest.raises(TPOError, match=r"TPO D1-N3: none of its 6 runs .*--retry-failed"):
        await compared(database, model=SeededModel(broken="?"), name="other")


async def test_runs_without_a_usable_rewrite_are_told(database: str):
    mute = SeededModel(silent="fewest changes")
    notes = (await compared(database, model=mute)).notes
    (note,) = [note for note in notes if "usable" in note]
    assert note.startswith("TPO D1-N3: 6 of 6 runs ended early")


async def test_best_of_n_gets_the_budget_of_the_first_loop(database: str):
    flops = await compared(database, budget="flops", seeds=(0,))
    assert [r.method.name for r in flops.methods] == ["tpo", "best-of-13"]
    assert flops.budget == "flops"
    costs = [result.cost.pflops for result in flops.methods if result.cost]
    assert costs[0] == pytest.approx(costs[1])
    tokens = await compared(database, budget="tokens", seeds=(0,))
    spent = [result.tokens.value for result in tokens.methods if result.tokens]
    assert spent[1] == pytest.approx(spent[0], rel=0.2)
    assert tokens.methods[1].method.width != 13
    fixed = await compared(database, ("best-of-4", "tpo", "best-of-2"), seeds=(0,))
    assert [r.method.label for r in fixed.methods] == ["best-of-4", "TPO D1-N3", "best-of-2"]
    assert fixed.budget is None
    # All share their first two samples, and gains are over the best of those.
    assert all(a.first <= a.reward for r in fixed.methods for a in r.answers)
    assert fixed.result("best-of-2").gain is not None
    assert fixed.result("best-of-2").gain.value == 0


class Brief:
    """A held-out reward model: the shorter the better; it cannot read one of the texts."""

    name = "brief-1"

    def __init__(self) -> None:
        self.scored = 0

    async def score(self, conversation: Any, responses: Any) -> list[float]:
        if responses and conversation[-1]["content"] == "Why?":
            raise RewardInputError("too long for me")
        self.scored += len(responses)
        return [-float(len(response)) for response in responses]


async def test_a_held_out_reward_model_scores_the_answers(database: str):
    audit = Brief()
    found = await compared(database, audit=audit, seeds=(0,))
    assert found.audit_reward_model == "brief-1"
    tpo, pair = found.result("tpo"), of(found, "tpo", "best-of-6")
    scores = [a.audit for a in tpo.answers if a.audit is not None]
    assert scores == [-a.reward for a in tpo.answers if a.audit is not None]
    assert len(scores) == 2
    assert tpo.audit is not None
    assert tpo.audit.value == pytest.approx(fmean(scores))
    by_reward, by_audit = pair.win_rates
    assert (by_reward.by, by_audit.by, by_audit.scorer) == ("reward", "audit", "brief-1")
    assert by_audit.wins + by_audit.ties + by_audit.losses == 2
    assert pair.audit is not None
    assert any("cannot score the answers to 1 prompts" in note for note in found.notes)
    asked = audit.scored
    await compared(database, audit=audit, seeds=(0,))
    assert audit.scored == asked

    same = Brief()
    same.name = found.reward_model
    with pytest.raises(ConfigurationError, match="is the one that is optimised"):
        await compared(database, audit=same)


async def test_the_judge_compares_the_first_method_with_the_others(database: str, tmp_path: Path):
    model = ScriptedChatModel(replies=['{"reasons": "", "verdict": "A+"}'])
    seen: list[int] = []

    async def tell(outcome: object, total: int) -> None:
        seen.append(total)

    judge = Judge(PairwiseJudge(model), tmp_path)
    found = await compared(
        database,
        ("tpo", "revision", "best-of-n"),
        judge=judge,
        seeds=(0,),
        on_verdict=tell,
    )
    assert found.judge == judge.name
    by = {(p.first, p.second): [rate.by for rate in p.win_rates] for p in found.pairs}
    assert by["tpo", "revision"] == by["tpo", "best-of-6"] == ["reward", "judge"]
    assert by["revision", "best-of-6"] == ["reward"]
    rate = of(found, "tpo", "best-of-6").win_rates[-1]
    assert (rate.wins, rate.losses, rate.ties) == (0, 0, 3)
    assert rate.inconsistent > 0
    assert seen == [6] * 6


async def test_rows_that_would_make_methods_unequal_or_cannot_be_asked(database: str):
    rows = [{"prompt": "Why?", "width": 40, "criteria": "brevity"}, {"prompt": ""}, "How?"]
    found = await compared(database, rows=rows, seeds=(0,))
    assert (found.prompts, found.bad_rows) == (2, 1)
    assert {result.method.width for result in found.methods} == {3, 6}
    assert all(result.cost and result.cost.samples == 6 for result in found.methods)
    assert found.notes[0].startswith("1 rows could not be read; the first: item 2")
    assert found.notes[1].startswith("1 rows have a width or depth of their own")


async def test_unseeded_runs(database: str):
    model = SeededModel()
    found = await compared(database, model=model, seed=None)
    assert {call["seed"] for _, call in model.calls} == {None}
    assert found.notes[0].startswith("The policy was given no seed")
    assert found.result("tpo").finished == 6


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rows": []}, "no prompts to compare on: 0 unusable rows"),
        ({"rows": [{"prompt": ""}]}, "no prompts to compare on: 1 unusable rows. The first"),
        ({"methods": ["dpo"]}, "unknown method 'dpo'"),
        ({"methods": ["best-of-n"]}, "best-of-n takes its budget from a loop"),
        ({"depth": 0}, "depth=0 is best-of-N itself"),
        ({"depth": -1}, "depth=-1 is not valid"),
        ({"seeds": []}, "seeds=[]"),
        ({"seeds": [1, 1]}, "seeds=[1, 1]"),
        ({"seed": 3}, "seed=3"),
        ({"widht": 3}, "there is no setting 'widht'"),
        ({"methods": ["tpo", "mine=./nowhere"]}, "nowhere"),
        ({"model": "nope:x"}, "nope:x"),
    ],
)
async def test_what_cannot_be_compared_is_refused_before_a_call(
    database: str, options: dict[str, Any], said: str
):
    model = SeededModel()
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        await compared(database, **{"model": model, **options})
    assert model.calls == []


async def test_every_method_meets_best_of_n_at_its_own_cost_and_at_twice_that(database: str):
    names = ["tpo", "rsa", "pandora", "reversed", "best-of-2n"]
    found = await compared(database, names, budget="tokens")
    loops = [result for result in found.methods if result.method.depth]
    assert [r.method.label for r in loops] == [
        "TPO D1-N3",
        "RSA D1-N3",
        "Pandora D10-N3",
        "Labels reversed D1-N3",
    ]
    assert [r.method.control for r in loops] == [False, False, False, True]
    met = {(pair.first, pair.second) for pair in found.pairs}
    for result in loops:
        assert result.cost is not None
        sizes = [
            found.result(second).method.width
            for first, second in met
            if first == result.method.name and second.startswith("best-of-")
        ]
        costs = {n: found.result(f"best-of-{n}").cost for n in sizes}
        tokens = {n: cost.tokens for n, cost in costs.items() if cost is not None}
        own = result.cost.tokens
        n = min(tokens, key=lambda n: abs(tokens[n] - own))
        assert tokens[n] == pytest.approx(own, rel=0.1)  # these answers vary in length
        assert 2 * n in sizes
    rsa, tpo = found.result("rsa").cost, found.result("tpo").cost
    assert rsa is not None
    assert tpo is not None
    assert rsa.pflops == pytest.approx(0.28468 * (3 + 2 * 3), abs=0.001)  # no critic
    assert rsa.requests == 1 + 3  # each sample of the update has a request of its own
    assert tpo.seconds > 0
    for pair in found.pairs:
        assert pair.p is None or (pair.p_corrected or 0) >= pair.p
    assert "Holm" in told_apart(found)[0]
