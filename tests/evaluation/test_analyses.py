"""The paper's analyses: what is read off a larger run is what the smaller run would have been."""

from pathlib import Path
from statistics import fmean, pstdev, stdev
from typing import Any

import pytest

from tests.evaluation.world import SeededModel, bench
from tpo_graph.errors import ConfigurationError
from tpo_graph.evaluation.analyses import best_of_n, curves, grid, stability
from tpo_graph.evaluation.compare import compare
from tpo_graph.store import open_store
from tpo_graph.store.trajectory import read_trajectory


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'tpo.db'}"


async def test_the_grid_reads_shallow_runs_off_deep_ones(database: str):
    model = SeededModel()
    async with bench(database, model=model, depth=2, seeds=(0,)) as opened:
        found = await grid(opened, (2, 3))
    assert found.kind == "grid"
    assert [(cell.width, cell.depth) for cell in found.grid] == [
        (w, d) for w in (2, 3) for d in (0, 1, 2)
    ]
    for cell in found.grid:
        assert cell.samples == cell.width * (1 + cell.depth)
        if cell.depth != 1:
            continue
        size = {"width": cell.width, "depth": cell.depth}
        async with bench(database, name=f"{size}", seeds=(0,), **size) as opened:
            single = await compare(opened, ["tpo"])
        result = single.result("tpo")
        assert result.reward is not None
        assert result.tokens is not None
        assert cell.reward.value == pytest.approx(result.reward.value)
        assert cell.tokens == pytest.approx(result.tokens.value)
    by_depth = [cell.reward.value for cell in found.grid if cell.width == 3]
    assert by_depth == sorted(by_depth)
    # One run per width, prompt and seed: 1 + 3 D calls.
    assert len(model.calls) == 2 * 3 * 7


async def test_best_of_30_is_the_beginning_of_best_of_60(database: str):
    model = SeededModel()
    async with bench(database, model=model, seeds=(0,)) as opened:
        found = await best_of_n(opened, (60, 30))
    assert [result.method.label for result in found.methods] == [
        "TPO D1-N3",
        "best-of-30",
        "best-of-60",
    ]
    calls = len(model.calls)
    async with bench(database, model=model, seeds=(0,)) as opened:
        await compare(opened, ["best-of-60", "tpo"])  # of the same name: all of it is there
    assert len(model.calls) == calls
    small = found.result("best-of-30")
    assert small.method.read_off == "best-of-60"
    assert sum(call["n"] == 60 for _, call in model.calls) == 3
    assert not any(call["n"] == 30 for _, call in model.calls)
    async with bench(database, name="alone", seeds=(0,)) as opened:
        alone = (await compare(opened, ["best-of-30"])).result("best-of-30")
    assert small.reward == alone.reward
    assert small.cost is not None
    assert alone.cost is not None
    assert small.cost.estimated
    assert not alone.cost.estimated
    assert small.cost.samples == alone.cost.samples == 30
    assert small.cost.prompt_tokens == alone.cost.prompt_tokens
    assert small.cost.completion_tokens == pytest.approx(alone.cost.completion_tokens, rel=0.2)
    assert small.cost.pflops == pytest.approx(alone.cost.pflops)
    assert [(p.first, p.second) for p in found.pairs][:2] == [
        ("tpo", "best-of-30"),
        ("tpo", "best-of-60"),
    ]
    assert found.notes[-1].startswith("best-of-30 are the first samples of the runs of best-of-60")


async def test_curves_are_of_the_samples_of_each_step(database: str):
    other = SeededModel()
    async with bench(database, seeds=(0,)) as opened:
        found = await curves(opened, baselines=[other])
    labels = [(line.label, line.baseline, len(line.points)) for line in found.curves]
    assert labels == [
        ("TPO D1-N3", False, 2),
        ("Revision D1-N3", False, 2),
        ("SeededModel unrefined", True, 1),
        ("SeededModel unrefined", True, 1),
    ]
    async with open_store(database) as store:
        runs = [
            (await read_trajectory(store, answer.run_id))["candidates"]
            for answer in found.result("tpo").answers
        ]
    for point in found.curves[0].points:
        samples = [[c["reward"] for c in run if c["iteration"] == point.step] for run in runs]
        assert point.prompts == 3
        assert point.reward.value == pytest.approx(fmean(map(fmean, samples)))
        assert point.spread.value == pytest.approx(fmean(map(pstdev, samples)))
        upto = [max(c["reward"] for c in run if c["iteration"] <= point.step) for run in runs]
        assert point.best.value == pytest.approx(fmean(upto))
    assert found.curves[2].points == found.curves[0].points[:1]


async def test_curves_of_runs_that_stopped_early(database: str):
    async with bench(database, seeds=(0,), target_reward=16.0, depth=3) as opened:
        found = await curves(opened, ["tpo"])
    points = found.curves[0].points
    assert [point.prompts for point in points] == sorted((p.prompts for p in points), reverse=True)
    assert points[-1].prompts < 3
    best = [point.best.value for point in points]
    assert best == sorted(best)
    reward = found.result("tpo").reward
    assert reward is not None
    assert best[-1] == pytest.approx(reward.value)


async def test_stability_is_the_spread_over_repeated_runs(database: str):
    async with bench(database, seeds=(4, 5, 6)) as opened:
        found = await stability(opened, ["tpo", "revision"])
    assert [entry.label for entry in found.stability] == [
        "one sample",
        "best-of-3",
        "TPO D1-N3",
        "Revision D1-N3",
    ]
    rewards: dict[str, list[float]] = {}
    single: dict[str, list[float]] = {}
    async with open_store(database) as store:
        for answer in found.result("tpo").answers:
            rewards.setdefault(answer.row_id, []).append(answer.reward)
            first = (await read_trajectory(store, answer.run_id))["candidates"][0]
            single.setdefault(answer.row_id, []).append(first["reward"])
    one, _, tpo, _ = found.stability
    assert one.std is not None
    assert tpo.std is not None
    assert tpo.difference is not None
    assert one.difference is None
    assert one.std.value == pytest.approx(fmean(map(stdev, single.values())))
    assert tpo.std.value == pytest.approx(fmean(map(stdev, rewards.values())))
    assert tpo.difference.value == pytest.approx(tpo.std.value - one.std.value)
    assert (tpo.runs, tpo.prompts) == (3, 3)
    assert [line.label for line in found.curves] == ["TPO D1-N3", "Revision D1-N3"]


@pytest.mark.parametrize(
    ("analysis", "options", "arguments", "said"),
    [
        (stability, {"seeds": (1,)}, {}, "2 or more seeds"),
        (curves, {}, {"methods": ["best-of-3"]}, "no steps to follow"),
        (curves, {"depth": 0}, {}, "depth=0 makes no step"),
        (grid, {}, {"widths": []}, r"widths=\[\]"),
        (grid, {}, {"widths": [2, 2]}, r"widths=\[2, 2\]"),
        (best_of_n, {}, {"sizes": [0]}, r"sizes=\[0\]"),
    ],
)
async def test_what_cannot_be_analysed_is_refused_before_a_call(
    database: str, analysis: Any, options: dict[str, Any], arguments: dict[str, Any], said: str
):
    model = SeededModel()
    async with bench(database, model=model, **options) as opened:
        with pytest.raises(ConfigurationError, match=said):
            await analysis(opened, **arguments)
    assert model.calls == []
