"""Callbacks: async ones are awaited, and what cannot be called or awaited is refused at once."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tpo_graph import (
    aextend,
    aoptimize,
    aoptimize_many,
    aresume,
    extend,
    optimize,
    optimize_many,
    resume,
    run_batch,
)
from tpo_graph.batch.progress import BatchProgress
from tpo_graph.errors import ConfigurationError
from tpo_graph.evaluation.bench import open_bench
from tpo_graph.rows import make_rows
from tpo_graph.testing import ScriptedChatModel, prefer_longer


class Seen:
    """An async callback that lets others run before it takes note."""

    def __init__(self) -> None:
        self.events: list[str] = []

    async def __call__(self, event: Any) -> None:
        await asyncio.sleep(0)
        self.events.append(event["event"])


def inputs(**more: Any) -> dict[str, Any]:
    model = ScriptedChatModel()
    return {"model": model, "reward_model": prefer_longer, "depth": 1, "width": 2, **more}


@pytest.mark.parametrize("wrapped", [False, True])
async def test_an_async_on_event_is_awaited_wherever_there_is_one(tmp_path: Path, wrapped: bool):
    seen = Seen()
    tell: Any = (lambda event: seen(event)) if wrapped else seen
    plain: list[str] = []
    optimize("Hi.", on_event=lambda event: plain.append(event["event"]), **inputs())
    url, again = f"sqlite:///{tmp_path / 'tpo.db'}", inputs()
    del again["depth"], again["width"]

    optimize("Hi.", on_event=tell, **inputs())
    await aoptimize("Hi.", on_event=tell, **inputs())
    optimize_many(["Hi."], on_event=tell, **inputs())
    assert len([one async for one in aoptimize_many(["Hi."], on_event=tell, **inputs())]) == 1
    assert seen.events == plain * 4

    seen.events.clear()
    optimize("Hi.", run_id="r", database=url, **inputs(depth=0))
    extend("r", depth=1, database=url, on_event=tell, **again)
    await aextend("r", depth=2, database=url, on_event=tell, **again)
    assert seen.events.count("stopped") == 2


def test_what_is_no_function_is_refused_before_anything_is_asked(sqlite_url: str):
    wrong: Any = "print"
    given = inputs()
    calls: list[Any] = [
        lambda: optimize("Hi.", on_event=wrong, **given),
        lambda: optimize_many(["Hi."], on_event=wrong, **given),
        lambda: resume("r", database=sqlite_url, on_event=wrong),
        lambda: extend("r", depth=3, database=sqlite_url, on_event=wrong),
        lambda: run_batch([], name="b", database=sqlite_url, on_progress=wrong, **given),
        lambda: asyncio.run(aresume("r", database=sqlite_url, on_event=wrong)),
    ]
    for call in calls:
        with pytest.raises(ConfigurationError, match=r"on_\w+='print' is not a function: give one"):
            call()
    assert given["model"].calls == []


def test_a_function_of_other_arguments_is_refused_with_both():
    with pytest.raises(ConfigurationError, match=r"on_event=<.*> takes \(\), .* take \(event\)"):
        optimize("Hi.", on_event=lambda: None, **inputs())  # type: ignore[misc]


async def test_an_async_on_progress_is_refused_before_a_row_is_run(sqlite_url: str):
    async def tell(*_: object) -> None: ...

    given = inputs()
    for callback in (tell, lambda *now: tell(*now)):
        with pytest.raises(ConfigurationError, match=r"on_progress=<.*> is async.*plain function"):
            run_batch(
                make_rows(["Hi."]),
                name="b",
                database=sqlite_url,
                on_progress=callback,  # type: ignore[arg-type]
                **given,
            )
    bench = open_bench([], name="b", database=sqlite_url, on_progress=tell, **given)
    with pytest.raises(ConfigurationError, match=r"on_progress=<.*> is async"):
        async with bench:
            pass
    assert given["model"].calls == []


def test_an_on_progress_that_begins_a_task_of_its_own_is_a_plain_function(sqlite_url: str):
    told: list[int] = []

    async def later(now: BatchProgress) -> None:
        told.append(now.done)

    def tell(now: BatchProgress) -> Any:
        return asyncio.get_running_loop().create_task(later(now))

    run_batch(
        make_rows(["Hi."]), name="b", database=sqlite_url, on_progress=tell, **inputs(depth=0)
    )
    assert told[0] == 0
