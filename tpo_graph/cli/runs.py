"""`tpo runs`: list, show, resume, extend, rescore, export and delete stored runs."""

import re
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tpo_graph.cli.options import database_option, json_option, with_options, with_store
from tpo_graph.cli.output import as_json_text, print_answer, print_json, say
from tpo_graph.context import LIMITS, TPOContext
from tpo_graph.errors import ConfigurationError
from tpo_graph.files.replaced import replaced
from tpo_graph.models.connection import ROLES

if TYPE_CHECKING:
    from tpo_graph.store import Store
    from tpo_graph.store.runs import RunFilter, RunSummary

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_STATUS = ["running", "finished", "interrupted", "failed"]
_AGE = {"h": "hours", "d": "days", "w": "weeks"}
_HANDLES = {
    "model": "Policy, where the run was given an object instead of a name.",
    "reward_model": "Reward model, where the run was given an object; it must be the same one.",
    "critic": "Another critic than the run began with.",
    "prompts": "Another prompt set than the run began with.",
    "audit": "A second reward model that scores the best first sample and the answer.",
}
_TIME = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"])
_FILTERS = [
    click.option("--model", metavar="NAME", help="Only runs of this policy."),
    click.option("--reward-model", metavar="NAME", help="Only runs of this reward model."),
    click.option("--batch", metavar="NAME", help="Only runs that answer rows of this batch."),
    click.option(
        "--since", type=_TIME, metavar="TIME", help="Only runs started at this time (UTC) or later."
    ),
    click.option(
        "--until", type=_TIME, metavar="TIME", help="Only runs started before this time (UTC)."
    ),
]


@click.group()
def runs() -> None:
    """Look at stored runs, resume, extend, rescore, export or delete them.

    RUN is a run id or any unambiguous prefix of one.
    """


def _handles(command: F) -> F:
    for name, text in reversed(_HANDLES.items()):
        flag = f"--{name.replace('_', '-')}"
        command = click.option(flag, name, metavar="SPEC", help=text)(command)
    for role in reversed(ROLES):
        flag = f"--{role.replace('_', '-')}-options"
        text = f"How the {role.replace('_', ' ')}'s server is reached; see tpo run."
        command = click.option(flag, metavar="JSON", callback=json_option, help=text)(command)
    command = click.option(
        "--grace",
        type=click.FloatRange(min=0),
        default=10.0,
        show_default=True,
        help="Seconds that calls in flight may still take after Ctrl-C or SIGTERM.",
    )(command)
    command = click.option(
        "--audit-fallback",
        is_flag=True,
        help="Answer with the best first sample if the reward rose and the audit fell.",
    )(command)
    return click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")(
        database_option(command)
    )


def _limits(command: F) -> F:
    """Settings that what is left of a run may get."""
    for name in reversed(LIMITS):
        described = TPOContext.model_fields[name].description
        flag = f"--{name.replace('_', '-')}"
        about = f"For what is left of the run: {described}"
        command = click.option(flag, name, metavar="NUMBER", help=about)(command)
    return command


def _whole(database: str, run_ids: Sequence[str]) -> list[str]:
    from tpo_graph.store.runs import whole_run_id

    async def found(store: "Store") -> list[str]:
        return [await whole_run_id(store, run_id) for run_id in run_ids]

    return with_store(database, found) if run_ids else []


def _filters(command: F) -> F:
    """Options that say which runs are meant, named like the fields of `RunFilter`."""
    return with_options(_FILTERS, command)


async def _stored_filters(store: "Store", wanted: dict[str, Any]) -> "RunFilter":
    """The filters that `wanted` has, with the name that its batch is stored under.

    Raises:
        RunNotFoundError: there is no such batch, which is not the same as one without runs.
    """
    from tpo_graph.store.batches import get_batch_or_output
    from tpo_graph.store.runs import RunFilter

    filters = RunFilter(**wanted)
    if filters.batch is None:
        return filters
    return replace(filters, batch=(await get_batch_or_output(store, filters.batch))["name"])


@runs.command("list")
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="Maximum number of runs."
)
@click.option(
    "--status",
    type=click.Choice(_STATUS),
    help="Only runs of this status.",
)
@_filters
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@database_option
def list_(limit: int, as_json: bool, database: str, **wanted: Any) -> None:
    """List runs, the newest first."""
    from tpo_graph.cli.stored import print_runs
    from tpo_graph.store.runs import list_runs

    async def look(store: "Store") -> "list[RunSummary]":
        return await list_runs(store, limit=limit, filters=await _stored_filters(store, wanted))

    found = with_store(database, look)
    if as_json:
        for run in found:
            print_json(run)
    else:
        print_runs(found)


@runs.command()
@click.argument("run_id", metavar="RUN")
@click.option("--iteration", type=click.IntRange(0), help="Only this iteration.")
@click.option("--full", is_flag=True, help="Full texts, and every sample.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@database_option
def show(run_id: str, iteration: int | None, full: bool, as_json: bool, database: str) -> None:
    """Show the trajectory of RUN: its samples, rewards, critiques and answer."""
    from tpo_graph.cli.stored import print_stored_run
    from tpo_graph.store.trajectory import read_trajectory

    (run_id,) = _whole(database, [run_id])
    trajectory = with_store(database, lambda store: read_trajectory(store, run_id))
    if as_json:
        print_json(trajectory, indent=2)
    else:
        print_stored_run(trajectory, iteration=iteration, full=full)


@runs.command()
@click.argument("run_id", metavar="RUN")
@_limits
@_handles
def resume(run_id: str, as_json: bool, database: str, **handles: Any) -> None:
    """Resume RUN from its last finished step after a crash, an interruption or a failure.

    No finished call is made again. A run whose rewrites were all unusable samples them again (give
    another --seed if it had one); one that a budget ended continues under a greater budget. Any
    other finished run is only printed.
    """
    from tpo_graph.session.resume import resume

    limits = {name: handles.pop(name) for name in LIMITS}
    given = {
        name: None if value.strip().lower() == "none" else value
        for name, value in limits.items()
        if value is not None
    }
    _go_on(run_id, None, as_json, database, resume, handles, given)


@runs.command()
@click.argument("run_id", metavar="RUN")
@click.option("--depth", type=click.IntRange(1), required=True, help="The new D.")
@_handles
def extend(run_id: str, depth: int, as_json: bool, database: str, **handles: Any) -> None:
    """Continue RUN to a greater depth, reusing everything it has sampled.

    With the same seed, the result is that of one run at this depth.
    """
    from tpo_graph.session.resume import extend

    _go_on(run_id, depth, as_json, database, extend, handles, {"depth": depth})


def _go_on(
    run_id: str,
    depth: int | None,
    as_json: bool,
    database: str,
    function: Callable[..., Any],
    handles: dict[str, Any],
    options: dict[str, Any],
) -> None:
    from tpo_graph.cli.display import Progress, end_if_failed, print_iterations
    from tpo_graph.cli.stopping import resume_command, stoppable
    from tpo_graph.store.runs import get_run

    (run_id,) = _whole(database, [run_id])
    run = with_store(database, lambda store: get_run(store, run_id))
    shown = depth or run["settings"]["depth"]
    specs = {role: handles.get(role) for role in ("model", "reward_model", "critic")}
    again = resume_command(run_id, database, **specs)
    launch = run["launch"] or {}
    loaded = [str(specs[role] or launch.get(role)) for role in specs]
    with stoppable(again, handles.pop("grace")) as control, Progress(shown, *loaded) as progress:
        result = function(
            run_id,
            database=database,
            on_event=progress.show,
            control=control,
            **options,
            **handles,
        )
    if as_json:
        print_json(result.to_dict(), indent=2)
    else:
        print_answer(result.response)
        print_iterations(result)
    end_if_failed(result, again)


@runs.command()
@click.argument("run_id", metavar="RUN")
@click.option("--reward-model", metavar="SPEC", required=True, help="The other reward model.")
@click.option("--json", "as_json", is_flag=True, help="Print the run with all rewards as JSON.")
@database_option
def rescore(run_id: str, reward_model: str, as_json: bool, database: str) -> None:
    """Score all candidates of RUN by another reward model, beside the first one's rewards."""
    from tpo_graph.cli.stored import print_rewards
    from tpo_graph.session.rescore import rescore

    (run_id,) = _whole(database, [run_id])
    trajectory = rescore(run_id, reward_model=reward_model, database=database)
    if as_json:
        print_json(trajectory, indent=2)
    else:
        print_rewards(trajectory)


@runs.command()
@click.argument("run_ids", metavar="[RUN]...", nargs=-1)
@click.option(
    "--format",
    "form",
    type=click.Choice(["runs", "preferences"]),
    default="runs",
    show_default=True,
    help="All of each run, or preference pairs for TRL's DPOTrainer and RewardTrainer.",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write to this file instead of standard output.",
)
@click.option(
    "--status",
    type=click.Choice([*_STATUS, "any"]),
    help="Only runs of this status, or any.  [default: finished for preferences, else any]",
)
@click.option(
    "--pairs",
    default="1",
    show_default=True,
    metavar="N|all",
    help="Preference pairs per run, those with the widest margin first.",
)
@click.option(
    "--min-margin",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Only preference pairs whose rewards differ by at least this much.",
)
@click.option(
    "--include-cut", is_flag=True, help="Also pair responses that the token limit cut off."
)
@_filters
@database_option
def export(
    run_ids: tuple[str, ...],
    form: str,
    output: Path | None,
    status: str | None,
    pairs: str,
    min_margin: float,
    include_cut: bool,
    database: str,
    **wanted: Any,
) -> None:
    """Print runs (all when none is named) as JSON Lines, the oldest first."""
    most = _pairs(pairs)

    from tpo_graph.store.preferences import preferences
    from tpo_graph.store.trajectory import export_runs

    default = "finished" if form == "preferences" else "any"
    shown = status or default
    wanted["status"] = None if shown == "any" else shown
    whole = _whole(database, run_ids)
    judges: Counter[str] = Counter()
    with _writing(output) as put:

        async def write(store: "Store") -> None:
            filters = await _stored_filters(store, wanted)
            async for trajectory in export_runs(store, whole, filters):
                if form == "runs":
                    put(as_json_text(trajectory) + "\n")
                    continue
                found = preferences(
                    trajectory, pairs=most, min_margin=min_margin, include_cut=include_cut
                )
                judges[trajectory["run"]["reward_model"]] += len(found)
                for pair in found:
                    put(as_json_text(pair) + "\n")

        with_store(database, write)
    if len(+judges) > 1:
        counts = ", ".join(f"{name!r}: {count}" for name, count in judges.most_common() if count)
        say(
            "Warning: the pairs are of several reward models, whose margins cannot be compared "
            f"({counts}). Choose one with --reward-model.",
        )


@contextmanager
def _writing(output: Path | None) -> Generator[Callable[[str], object]]:
    """What writes to standard output, or to a file that is whole in the end or as it was."""
    if output is None or str(output) == "-":
        with click.open_file("-", "w", encoding="utf-8") as standard:
            yield standard.write
    else:
        with replaced(output) as file:
            yield lambda text: file.write(text.encode())


def _pairs(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ConfigurationError(f"--pairs {text!r} must be a number of at least 1, or all")
    return int(text)


@runs.command()
@click.option(
    "--older-than", metavar="AGE", required=True, help="Such as 12h, 30d or 4w, since the start."
)
@click.option("--keep-best", is_flag=True, help="Keep each run's best response and its numbers.")
@click.option(
    "--dry-run", is_flag=True, help="Show how many runs would be deleted, and delete nothing."
)
@database_option
def prune(older_than: str, keep_best: bool, dry_run: bool, database: str) -> None:
    """Delete old runs with their checkpoints, and old rewards of the score cache."""
    age = _age(older_than)

    from tpo_graph.store.pruning import prune
    from tpo_graph.store.tables import now

    before = now() - age
    count = with_store(
        database, lambda store: prune(store, before, keep_best=keep_best, dry_run=dry_run)
    )
    done = "would be pruned" if dry_run else "pruned"
    say(f"{count} runs {done}")


def _age(text: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,6})([hdw])", text.strip())
    if match is None:
        raise ConfigurationError(f"not an age: {text!r:.200}. Write it as 12h, 30d or 4w.")
    return timedelta(**{_AGE[match[2]]: int(match[1])})
