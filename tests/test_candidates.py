"""The order of candidates, in Python and in SQL: whole first, then by reward, then the earliest."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.databases import make_run
from tpo_graph.candidates import Candidate, best, is_cut
from tpo_graph.concurrency.background import run_in_background
from tpo_graph.store import open_store
from tpo_graph.store.answers import read_answers
from tpo_graph.store.runs import read

ENDS = st.lists(st.tuples(st.sampled_from([0.0, 1.0, 2.0]), st.booleans()), min_size=1, max_size=6)


def made(ends: list[tuple[float, bool]]) -> list[Candidate]:
    return [
        Candidate(
            iteration=0,
            position=position,
            reward=reward,
            response=f"response {position}",
            finish_reason="length" if cut else "stop",
        )
        for position, (reward, cut) in enumerate(ends)
    ]


@given(ENDS)
def test_a_cut_response_never_beats_a_whole_one(ends: list[tuple[float, bool]]) -> None:
    candidates = made(ends)
    whole = [c for c in candidates if not is_cut(c)] or candidates
    top = max(c["reward"] for c in whole)
    assert best(candidates) == next(c for c in whole if c["reward"] == top)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ENDS)
def test_sql_orders_alike(database_url: str, ends: list[tuple[float, bool]]) -> None:
    candidates = made(ends)

    async def stored() -> Candidate | None:
        async with open_store(database_url) as store:
            run_id = repr(ends)
            await store.cache.begin(make_run(run_id))
            await store.cache.record(run_id, 0, "reward_score", candidates=candidates)
            answers = await read(store, lambda connection: read_answers(connection, [run_id]))
            return answers[run_id].best

    assert run_in_background(stored()) == best(candidates)
