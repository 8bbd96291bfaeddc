"""`write_report` and `tpo report`: what targets name, and what the file holds."""

import asyncio
import re
import sys
from collections.abc import AsyncGenerator, Iterable
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from click.testing import CliRunner
from langgraph.runtime import RunControl

from tests.evaluation.values import full_comparison
from tests.report.hostile import store_runs
from tpo_graph import open_store, optimize
from tpo_graph.batch.engine import Done, Job
from tpo_graph.batch.job import run_batch
from tpo_graph.cli import tpo
from tpo_graph.costs import read_costs
from tpo_graph.errors import ConfigurationError
from tpo_graph.evaluation.results import Answer, Estimate, Method, MethodResult, Pair, dump
from tpo_graph.report import write_report
from tpo_graph.report.data import Report
from tpo_graph.rows import make_rows
from tpo_graph.store.cache import run_row
from tpo_graph.store.tables import RunRow
from tpo_graph.store.upserts import upsert
from tpo_graph.testing import ScriptedChatModel, prefer_longer


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('report') / 'tpo.db'}"
    store_runs(url)
    run_batch(
        make_rows(["One?", "Two?", {"id": "bad"}]),
        name="trial",
        database=url,
        model=ScriptedChatModel(),
        reward_model=prefer_longer,
        width=2,
        depth=1,
    )
    return url


def answer(database: str, query: str, run_id: str, **settings: int) -> None:
    optimize(
        query,
        model=ScriptedChatModel(),
        reward_model=prefer_longer,
        database=database,
        run_id=run_id,
        **settings,
    )


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "report.html"


def ids(report: Report) -> list[str]:
    return [run.run_id for series in report.series for run in series.runs]


def test_runs_are_named_by_unique_beginnings(database: str, output: Path):
    report = write_report(["host", "sky"], output, database=database)
    assert sorted(ids(report)) == ["hostile", "sky"]
    # "hostile" went deeper than "sky": a series of its own, named after what differs.
    assert sorted(series.name for series in report.series) == ["D1-N3", "D2-N3"]
    text = output.read_text(encoding="utf-8")
    assert "<title>TPO report: 2 runs</title>" in text


def test_a_batch_is_named_by_itself_or_by_its_file(
    database: str, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (series,) = write_report(["trial"], output, database=database).series
    assert (series.name, len(series.runs), len(series.counted)) == ("trial", 3, 2)
    bad = series.runs[2]
    assert (bad.row_id, bad.status, bad.run_id) == ("bad", "failed", "")
    assert bad.error in unescape(output.read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    run_batch(
        make_rows(["Three?"]),
        name=str(tmp_path / "out.jsonl"),
        database=database,
        model=ScriptedChatModel(),
        reward_model=prefer_longer,
        width=1,
        depth=0,
    )
    report = write_report(["trial", "out.jsonl"], output, database=database)
    assert [each.name for each in report.series] == ["trial", "out.jsonl"]
    assert report.sources == ["batch trial", "batch out.jsonl"]


def test_a_row_that_failed_before_its_run_began_says_why(tmp_path: Path, output: Path):
    class Unable:
        async def run(self, jobs: Iterable[Job], *, control: RunControl) -> AsyncGenerator[Done]:
            for job in jobs:
                yield Done(job.position, error="the cluster is gone")

    database = f"sqlite:///{tmp_path / 'tpo.db'}"
    models = {"model": "openai:m", "reward_model": "local:r"}
    run_batch(make_rows(["One?"]), name="b", database=database, engine=Unable(), **models)
    (series,) = write_report(["b"], output, database=database).series
    assert [(run.query, run.error) for run in series.runs] == [("One?", "the cluster is gone")]


def test_a_comparison_is_drawn_even_where_its_runs_are_not(database: str, output: Path):
    notes = ["a note", "No <rewrite> (see `tpo check`).", "It said `x"]
    compared = replace(full_comparison(), notes=notes)
    folder = dump(compared, output.parent / "trial").parent
    for target in (folder, folder / "comparison.json"):
        report = write_report([str(target)], output, database=database)
        assert report.series == []
    text = output.read_text(encoding="utf-8")
    for shown in ("prompts &lt;1&gt;.jsonl", "a note", "TPO D2-N5 – best-of-n", "Width and depth"):
        assert shown in text
    assert "No &lt;rewrite&gt; (see <code>tpo check</code>)." in text
    assert "It said `x" in text
    charts = re.findall(r"<title id=\"[^\"]*\">([^<]*)", text)
    assert "Win rates" in charts
    assert "Reward of the samples, step by step" in charts


def test_long_names_of_methods_stand_in_the_charts_in_full(database: str, output: Path):
    first, second = "TPO with the short prompts D2-N5", "best-of-15 of the same model"
    some = full_comparison()
    methods = [
        replace(some.methods[0], method=replace(some.methods[0].method, name=name, label=label))
        for name, label in (("tpo", first), ("best-of-n", second))
    ]
    folder = dump(replace(some, methods=methods), output.parent / "trial").parent
    write_report([str(folder)], output, database=database)
    drawn = {
        unescape(title): re.findall("<text[^>]*>(.*?)</text>", unescape(svg))
        for title, svg in re.findall("(?s)<title id=[^>]*>([^<]*)(.*?)</svg>", output.read_text())
    }
    for title, label in [
        ("Reward by method", f"{first} {second}"),
        ("Differences in reward", f"{first} – {second}"),
        ("Win rates", f"{first} – {second} by the judge"),
    ]:
        assert label in " ".join(drawn[title])
    # A prompt has a run for each seed, and the bars count those.
    assert "% of the runs" in drawn["Win rates"]


def test_a_comparison_brings_its_methods_trajectories(tmp_path: Path, output: Path):
    database = f"sqlite:///{tmp_path / 'tpo.db'}"
    answer(database, "One?", "run-1", depth=1, width=2)
    folder = dump(full_comparison(), tmp_path / "trial").parent
    (series,) = write_report([str(folder)], output, database=database).series
    assert (series.name, [run.row_id for run in series.runs]) == ("TPO D2-N5", ["row ü"])


def test_without_targets_the_newest_runs_are_shown(database: str, output: Path):
    report = write_report([], output, database=database, limit=3)
    assert len(ids(report)) == 3
    assert report.sources == ["3 newest runs"]


def test_runs_beyond_the_limit_count_and_have_no_texts(database: str, output: Path):
    (series,) = write_report(["trial"], output, database=database, limit=1).series
    assert len(series.counted) == 2
    assert output.read_text(encoding="utf-8").count('class="trajectory"') == 1
    assert "tpo report --limit N" in output.read_text(encoding="utf-8")
    arguments = ["report", "trial", "-o", str(output), "--limit", "1", "--database", database]
    told = CliRunner().invoke(tpo, arguments).stderr
    assert "1 of them without their texts; --limit 2 takes all" in told


def test_what_names_nothing_or_several_runs_is_refused(database: str, output: Path):
    with pytest.raises(ConfigurationError, match="'nobody' is no run and no batch"):
        write_report(["nobody"], output, database=database)
    answer(database, "Again?", "sky-2", depth=0, width=1)
    assert ids(write_report(["sky"], output, database=database)) == ["sky"]  # the whole id
    with pytest.raises(ConfigurationError, match="several runs: sky, sky-2"):
        write_report(["sk"], output, database=database)


def test_an_empty_database_and_an_unfinished_run(tmp_path: Path, output: Path):
    database = f"sqlite:///{tmp_path / 'tpo.db'}"
    write_report([], output, database=database)
    assert "No runs are stored here yet" in output.read_text(encoding="utf-8")

    async def begin() -> None:
        async with open_store(database) as store:
            row = run_row(
                {
                    "run_id": "begun",
                    "thread_id": None,
                    "conversation": [
                        {"role": "system", "content": "Be brief."},
                        {"role": "user", "content": "Why?"},
                    ],
                    "settings": {"depth": 2, "width": 5},
                    "policy": "p",
                    "critic": "p",
                    "reward_model": "r",
                    "prompts": "tpo",
                }
            )
            await store.writer.run(lambda connection: upsert(connection, RunRow, [row], ()))

    asyncio.run(begin())
    (series,) = write_report([], output, database=database).series
    assert (series.runs[0].status, series.counted) == ("running", [])
    text = output.read_text(encoding="utf-8")
    for shown in ("No run has finished", "Nothing was scored", "Be brief."):
        assert shown in text
    assert "<svg" not in text


def test_costs_are_those_of_the_table(database: str, output: Path, tmp_path: Path):
    file = tmp_path / "costs.toml"
    file.write_text(
        'currency = "EUR"\n[models.ScriptedChatModel]\ninput_price = 1e6\noutput_price = 1e6\n'
    )
    report = write_report(["trial"], output, database=database, costs=read_costs(file))
    (series,) = report.series
    tokens = sum(run.tokens for run in series.counted)
    assert series.bill.cost == pytest.approx(tokens)
    assert f"{tokens / 2:.5f} EUR" in output.read_text(encoding="utf-8")


def test_the_file_needs_nothing_else_and_follows_the_pages_colours(database: str, output: Path):
    write_report([], output, database=database)
    text = output.read_text(encoding="utf-8")
    assert text.startswith('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">')
    charts = "".join(re.findall(r"<svg.*?</svg>", re.sub("(?s)<ol.*</ol>", "", text), re.DOTALL))
    assert charts.count("<title id") == 4
    for forbidden in (r"#[0-9a-f]{6}\b", r"\bstyle=", r"https?:", r"<style", r"<image"):
        assert not re.search(forbidden, charts), forbidden
    assert set(re.findall(r"\b(?:fill|stroke)=\"([^\"]*)\"", charts)) <= {
        "none",
        *(f"var(--{name})" for name in ("ink", "muted", "line", "surface")),
        *(f"var(--series-{number})" for number in range(1, 7)),
    }
    assert re.findall(r"(?:src|href)=\"(?!#)([^\"]*)\"", re.sub("(?s)<ol.*</ol>", "", text)) == [
        "data:,"
    ]


def test_two_reports_of_the_same_runs_are_the_same(database: str, output: Path):
    def written() -> str:
        write_report(["sky", "hostile"], output, database=database)
        return re.sub(r", on \d{4}-[^<]*UTC", "", output.read_text(encoding="utf-8"))

    assert written() == written()


def test_a_failed_writing_leaves_the_old_file(
    database: str, output: Path, monkeypatch: pytest.MonkeyPatch
):
    output.write_text("old")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigurationError, match=re.escape("pip install 'tpo-graph[report]'")):
        write_report(["sky"], output, database=database)
    assert output.read_text() == "old"
    assert list(output.parent.iterdir()) == [output]
    with pytest.raises(ConfigurationError, match="cannot be written"):
        write_report([], output.parent / "no" / "folder.html", database=database)


def test_the_command_writes_the_file_and_says_so(database: str, output: Path):
    result = CliRunner().invoke(
        tpo, ["report", "trial", "--output", str(output), "--database", database]
    )
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert re.fullmatch(rf"{re.escape(str(output))}: 3 runs, \d\.\d MB\n", result.stderr)
    assert output.stat().st_mode & 0o044  # others may read it, as any file of this user


def test_a_comparison_leads_with_prompts_by_methods_and_what_speaks_against_it(
    tmp_path: Path, output: Path
):
    database = f"sqlite:///{tmp_path / 'tpo.db'}"
    some = full_comparison()
    results: list[MethodResult] = []
    for name, depth, audit in (("tpo", 1, -1.0), ("best-of-3", 0, 0.5)):
        found = optimize(
            "One <b>question</b>?",
            model=ScriptedChatModel(),
            reward_model=prefer_longer,
            database=database,
            run_id=name,
            depth=depth,
            width=3,
        )
        given = Answer("row", 0, name, found.reward, 1.0, len(found.response), 9, audit)
        method = Method(name, f"{name} <1>", 3, depth, "", "policy")
        results.append(replace(some.methods[0], method=method, answers=[given]))
    better = Estimate(2.0, 1.0, 3.0)

    def text(audit: Estimate) -> str:
        pair = Pair("tpo", "best-of-3", 1, better, None, audit, [], 0.0001, 0.04)
        folder = dump(replace(some, methods=results, pairs=[pair]), tmp_path / "trial").parent
        write_report([str(folder)], output, database=database, command="tpo report trial")
        return unescape(re.sub("(?s)<script.*?</script>", "", output.read_text(encoding="utf-8")))

    page = text(Estimate(-1.5, -2.0, -1.0))
    warning = (
        "The held-out reward model disagrees: tpo <1> – best-of-3 <1> is +2.000 [+1.000, +3.000]"
    )
    places = [page.index(each) for each in (warning, "Prompts by methods", "<h3>Methods")]
    assert places == sorted(places)
    (row,) = re.findall(r'(?s)<tr><th scope="row"><div dir="auto">.*?</tr>', page)
    assert "One <b>question</b>?" in row
    assert row.count("<details><summary") == 3  # an answer each, and one against the other
    assert "<ins>" in row
    assert re.findall('href="(#query-[0-9])"', row) == ["#query-1", "#query-2"]
    assert "-1.000" in row
    assert '<td class="n"><0.001</td><td class="n">0.040</td>' in page
    header = page[: page.index("</header>")]
    for shown in ("prompts <1>.jsonl", "tpo <1>; best-of-3 <1>", "tpo report trial", "prompt set"):
        assert shown in header
    assert "leans the other way" in text(Estimate(-1.5, -4.0, 1.0))
    assert "held-out reward model" not in text(Estimate(1.5, 1.0, 2.0))
