"""`tpo compare`: TPO, the methods after it and best-of-N at equal budgets."""

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
from tpo_graph.settings import configured_methods

if TYPE_CHECKING:
    from tpo_graph.cli.evaluating import Progress
    from tpo_graph.evaluation.bench import Bench
    from tpo_graph.evaluation.results import Budget, Comparison


@click.command(cls=SettingsCommand)
@click.argument("source", metavar="PROMPTS")
@click.option(
    "--methods",
    "--method",
    "methods",
    multiple=True,
    metavar="METHOD",
    help="Names of methods (docs/methods.md), best-of-n, best-of-2n (each loop against best-of-N "
    "at its own cost and at twice that), best-of-30 (your own number), or NAME=SET for a prompt "
    "set of your own; repeatable, or with commas. all: every method, control and best-of-N. The "
    "judge compares the first with each of the others.  [default: methods in the table "
    "[compare] of the configuration; or else tpo, revision, best-of-n]",
)
@click.option(
    "--budget",
    type=click.Choice(["samples", "tokens", "flops"]),
    default="samples",
    show_default=True,
    help="What to keep equal between best-of-n and the first method: samples, measured tokens, or "
    "FLOPs (the paper's formula).",
)
@seeds_option(3)
@audit_options
@evaluation_options
def compare(
    source: str,
    output: Path,
    methods: tuple[str, ...],
    budget: "Budget",
    judge: str | None,
    judge_options: Any,
    audit_reward_model: str | None,
    config: str | None,
    **options: Any,
) -> None:
    """Compare methods on PROMPTS: rewards, gains, lengths, tokens and win rates.

    PROMPTS is a JSONL, JSON, CSV or Parquet file, or the id of a data set. All methods answer the
    same prompts with the same models under the same seeds; --depth and --width are TPO's. Run the
    same command again to resume.
    """
    settings = settings_for(options, config)
    wanted = [name for given in methods for name in given.split(",")]
    wanted = wanted or configured_methods(config) or ["tpo", "revision", "best-of-n"]
    judge_model = load_judge(judge, judge_options, output)
    audit = load_audit(audit_reward_model, settings)

    async def work(bench: "Bench", progress: "Progress") -> "Comparison":
        from tpo_graph.evaluation.compare import compare as run

        return await run(
            bench,
            wanted,
            budget=budget,
            judge=judge_model,
            audit=audit,
            on_verdict=progress.verdict,
        )

    evaluate(work, settings, source=source, output=output, **options)
