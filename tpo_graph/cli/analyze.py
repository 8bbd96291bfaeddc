"""`tpo analyze`: the paper's analyses, one command each."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tpo_graph.cli.evaluating import (
    audit_options,
    evaluate,
    evaluation_options,
    load_audit,
    load_judge,
    seeds_option,
    settings_for,
)
from tpo_graph.cli.options import SettingsCommand

if TYPE_CHECKING:
    from tpo_graph.cli.evaluating import Progress
    from tpo_graph.evaluation.bench import Bench
    from tpo_graph.evaluation.results import Comparison

_source = click.argument("source", metavar="PROMPTS")


def _loops(*default: str) -> Any:
    return click.option(
        "--method",
        "methods",
        multiple=True,
        metavar="METHOD",
        default=default,
        help="tpo, revision, or NAME=SET for a prompt set of your own; repeatable.  "
        f"[default: {', '.join(default)}]",
    )


@click.group()
def analyze() -> None:
    """The paper's analyses of TPO; runs are kept as in `tpo compare`."""


@analyze.command(cls=SettingsCommand)
@_source
@_loops("tpo", "revision")
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    metavar="SPEC",
    help="Another policy, which answers once, without refinement; repeatable.",
)
@seeds_option(1)
@evaluation_options
def curves(
    methods: tuple[str, ...], baselines: tuple[str, ...], config: str | None, **options: Any
) -> None:
    """Reward of the sampled responses at each step, against unrefined models (Figure 3).

    The depth is 5 unless it is set.
    """
    settings = settings_for(options, config, depth=5)

    async def work(bench: "Bench", progress: "Progress") -> "Comparison":
        from tpo_graph.evaluation.analyses import curves as run

        return await run(bench, methods, baselines=baselines)

    evaluate(work, settings, **options)


@analyze.command(cls=SettingsCommand)
@_source
@_loops("tpo")
@seeds_option(5)
@evaluation_options
def stability(methods: tuple[str, ...], config: str | None, **options: Any) -> None:
    """Spread of rewards over repeated runs, with TPO and without (Figure 4)."""
    settings = settings_for(options, config)

    async def work(bench: "Bench", progress: "Progress") -> "Comparison":
        from tpo_graph.evaluation.analyses import stability as run

        return await run(bench, methods)

    evaluate(work, settings, **options)


@analyze.command(cls=SettingsCommand)
@_source
@click.option(
    "--widths",
    default="5,10,15,20",
    show_default=True,
    metavar="NUMBERS",
    help="Widths; one run each covers all depths up to --depth.",
)
@seeds_option(1)
@evaluation_options
def grid(widths: str, config: str | None, **options: Any) -> None:
    """The best reward at every width and depth (Figure 5).

    The depth is 5 unless it is set; --width is not used.
    """
    settings = settings_for(options, config, depth=5)
    numbers = _numbers(widths, "--widths")

    async def work(bench: "Bench", progress: "Progress") -> "Comparison":
        from tpo_graph.evaluation.analyses import grid as run

        return await run(bench, numbers)

    evaluate(work, settings, **options)


@analyze.command(cls=SettingsCommand, name="best-of-n")
@_source
@click.option(
    "--sizes",
    default="30,60",
    show_default=True,
    metavar="NUMBERS",
    help="Values of N; only the largest is run, smaller ones reuse its first samples.",
)
@seeds_option(1)
@audit_options
@evaluation_options
def best_of_n(
    output: Path,
    sizes: str,
    judge: str | None,
    judge_options: Any,
    audit_reward_model: str | None,
    config: str | None,
    **options: Any,
) -> None:
    """TPO against best-of-N of several times its samples (Figure 6)."""
    settings = settings_for(options, config)
    numbers = _numbers(sizes, "--sizes")
    judge_model = load_judge(judge, judge_options, output)
    audit = load_audit(audit_reward_model, settings)

    async def work(bench: "Bench", progress: "Progress") -> "Comparison":
        from tpo_graph.evaluation.analyses import best_of_n as run

        return await run(
            bench, numbers, judge=judge_model, audit=audit, on_verdict=progress.verdict
        )

    evaluate(work, settings, output=output, **options)


def _numbers(text: str, option: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as e:
        raise click.UsageError(f"{option} {text!r}: give whole numbers, such as 5,10") from e
