"""What `tpo compare` and `tpo analyze` have in common: options, progress, where the result goes."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.text import Text

from tpo_graph.cli.display import LiveStatus, console, loading
from tpo_graph.cli.options import json_option, setting_options, wait_option, with_options
from tpo_graph.cli.output import json_on_terminal
from tpo_graph.errors import ConfigurationError
from tpo_graph.models.connection import connected
from tpo_graph.settings import Settings

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from tpo_graph.batch.job import BatchProgress
    from tpo_graph.evaluation.bench import Bench
    from tpo_graph.evaluation.judging import Judge, Outcome
    from tpo_graph.evaluation.results import Comparison
    from tpo_graph.rewards import RewardModel

F = TypeVar("F", bound=Callable[..., Any])
_OPTIONS = [
    click.option(
        "--output",
        "-o",
        type=click.Path(file_okay=False, path_type=Path),
        required=True,
        help="Folder for comparison.json; give the same one again to resume.",
    ),
    click.option(
        "--name", help="Prefix of the batches' names in the database.  [default: the folder]"
    ),
    click.option("--limit", type=click.IntRange(min=1), help="Use only the first N prompts."),
    click.option(
        "--costs",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="TOML file with prices and sizes of the models.",
    ),
    click.option("--max-in-flight", type=click.IntRange(min=1), help="Maximum concurrent runs."),
    wait_option,
    click.option("--retry-failed", is_flag=True, help="Also retry runs that failed."),
    click.option("--fresh", is_flag=True, help="Start over, ignoring earlier progress."),
    click.option(
        "--json", "as_json", is_flag=True, help="Print comparison.json instead of tables."
    ),
]
_AUDITS = [
    click.option(
        "--judge", metavar="SPEC", help="A chat model that compares the answers, in both orders."
    ),
    click.option(
        "--judge-options",
        metavar="JSON",
        callback=json_option,
        help="Connection to the judge's server, like --model-options.",
    ),
    click.option(
        "--audit-reward-model",
        metavar="SPEC",
        help="A held-out reward model that scores all answers; alias: --audit.",
    ),
]


def evaluation_options(command: F) -> F:
    """The options that all of these commands take, and those of the settings but `--method`."""
    return with_options(_OPTIONS, setting_options(command, without={"method"}))


def seeds_option(default: int) -> Callable[[F], F]:
    """`--seeds`: how many."""
    return click.option(
        "--seeds",
        type=click.IntRange(min=1),
        default=default,
        show_default=True,
        help="Runs per prompt and method, with seeds counting up from --seed (or 0).",
    )


def audit_options(command: F) -> F:
    """`--judge` and `--audit-reward-model`."""
    return with_options(_AUDITS, command)


def evaluate(
    work: "Callable[[Bench, Progress], Awaitable[Comparison]]",
    settings: Settings,
    *,
    source: str,
    output: Path,
    seeds: int,
    name: str | None,
    costs: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Open the bench, do the work on it, write and print what it found.

    Args:
        work: what to do.
        settings: see `settings_for`.
        source: of the prompts.
        output, seeds, name, costs, as_json, options: as the command was given them.

    Raises:
        TPOError: see `evaluation.bench` and the work.
    """
    model, reward_model = settings.policy_name(), settings.reward_model_name()

    # Past the cheap mistakes: only now the heavy imports.
    from tpo_graph.cli.stopping import same_command, stoppable
    from tpo_graph.concurrency.background import run_in_background
    from tpo_graph.costs import read_costs
    from tpo_graph.evaluation.results import refuse_other
    from tpo_graph.rows import read_rows

    name = name or str(output.resolve())

    async def go() -> "Comparison":
        bench = _bench(
            settings,
            seeds,
            rows=read_rows(source),
            name=name,
            source=source,
            costs=None if costs is None else read_costs(costs),
            control=control,
            on_progress=progress.batch,
            **options,
        )
        async with bench as opened:
            if not options.get("fresh"):
                names = opened.names
                same = {"model": names["policy"], "reward_model": names["reward_model"]}
                refuse_other(output, prompts=len(opened.rows), seeds=list(opened.seeds), **same)
            return await work(opened, progress)

    loaded = (model, reward_model, settings.critic)
    with stoppable(same_command(), settings.grace) as control, Progress(*loaded) as progress:
        comparison = run_in_background(go())
    _end(comparison, output, as_json)


def _bench(settings: Settings, seeds: int, **options: Any) -> "AbstractAsyncContextManager[Bench]":
    from tpo_graph.evaluation.bench import open_bench

    runs = settings.run_options()
    first = runs.pop("seed")
    if first is None and "seed" in settings.model_fields_set:
        runs["seed"] = None  # "none": a model that refuses seeds
    return open_bench(
        database=settings.database_url,
        model=settings.policy_name(),
        reward_model=settings.reward_model_name(),
        critic=settings.critic,
        prompts=settings.prompts,
        reuse_scores=settings.score_cache,
        audit_fallback=settings.audit_fallback,
        seeds=range(first or 0, (first or 0) + seeds),
        **options,
        **runs,
    )


def _end(comparison: "Comparison", output: Path, as_json: bool) -> None:
    """Write it, with what made it, and print it."""
    from tpo_graph.cli.compared import print_comparison
    from tpo_graph.cli.stopping import same_command
    from tpo_graph.evaluation.results import dump, to_json

    made_by = {"command": same_command(), "version": version("tpo-graph")}
    comparison = replace(comparison, **made_by)
    file = dump(comparison, output)
    if as_json:
        click.echo(json_on_terminal(to_json(comparison)))
    else:
        print_comparison(comparison)
    console.print(f"Written to {file}", soft_wrap=True, markup=False)


def settings_for(options: dict[str, Any], config: str | None, **defaults: Any) -> Settings:
    """Take the settings out of a command's options.

    Args:
        options: all that the command was given; left with what is no setting.
        config: the TOML file.
        defaults: used where neither options, environment nor file say anything.

    Raises:
        ConfigurationError: wrong settings, or ones with which nothing can be compared.
    """
    given = {key: options.pop(key) for key in list(options) if key in Settings.model_fields}
    settings = Settings.load(given, config)
    missing = {k: v for k, v in defaults.items() if k not in settings.model_fields_set}
    settings = settings.model_copy(update=missing)
    if settings.database_url is None:
        raise ConfigurationError("the runs must be kept in a database, not in 'none'")
    return settings


def load_judge(spec: str | None, options: Any, folder: Path) -> "Judge | None":
    """The judge of that name, which keeps its verdicts in the folder.

    Args:
        spec: its name.
        options: of the connection to it.
        folder: where verdicts are kept.

    Raises:
        ConfigurationError: the name or the options are not usable.
    """
    spec = connected(spec, options, "judge")
    if spec is None:
        return None
    from tpo_graph.evaluation.judging import Judge
    from tpo_graph.rewards.pairwise import PairwiseJudge

    return Judge(PairwiseJudge(connected(spec.removeprefix("judge:"), options, "judge")), folder)


def load_audit(spec: str | None, settings: Settings) -> "RewardModel | None":
    """The held-out reward model; that of the settings where no other is named.

    Raises:
        ConfigurationError: the name is not usable.
    """
    if (name := spec or settings.audit) is None:
        return None
    from tpo_graph.rewards import as_reward_model

    return as_reward_model(name)


_LOG_SECONDS = 10.0
"""Between two lines where there is no terminal."""


class Progress(LiveStatus):
    """What is being done, on standard error: live on a terminal, else a line per batch, and one
    every few seconds while it runs.

    Args:
        models: what is loaded first.
    """

    def __init__(self, *models: str | None) -> None:
        super().__init__(f"{loading(*models)}reading prompts")
        self._logged = time.monotonic()
        self._ended = ""
        self._waiting = False
        self._verdicts = 0

    def batch(self, name: str, progress: "BatchProgress") -> None:
        """One batch is so far."""
        what = "/".join(name.rsplit("/", 2)[-2:])
        failed = f", {progress.failed} failed" if progress.failed else ""
        line = f"{what}: {progress.done} of {progress.total} done{failed}"
        waiting = f"; {progress.waiting}" if progress.waiting else ""
        self._status.update(Text(line + waiting))
        now = time.monotonic()
        due = bool(progress.unfinished) and now - self._logged >= _LOG_SECONDS
        if not console.is_terminal and ((waiting and not self._waiting) or due):
            self._logged = now
            running = f", {progress.in_flight} running" if progress.in_flight else ""
            console.print(Text(line + running + waiting), soft_wrap=True)
        self._waiting = bool(waiting)
        if not progress.unfinished and name != self._ended:
            self._ended = name
            console.print(Text(line), soft_wrap=True)

    def verdict(self, outcome: "Outcome", total: int) -> None:
        """The judge has compared one more pair."""
        self._verdicts += 1
        self._status.update(Text(f"judge: {self._verdicts} of {total} pairs"))
