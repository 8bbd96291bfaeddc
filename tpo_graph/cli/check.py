"""`tpo check`: is this set-up fit for TPO?"""

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from tpo_graph.cli.options import SettingsCommand, setting_options
from tpo_graph.cli.output import print_json
from tpo_graph.errors import ConfigurationError
from tpo_graph.settings import Settings, configured_probes

if TYPE_CHECKING:
    from tpo_graph.check import Finding


@click.command(cls=SettingsCommand)
@click.option(
    "--against",
    metavar="SPEC",
    help="A reward model that must give the same scores, such as a local copy of a remote one.",
)
@click.option(
    "--context-window",
    type=click.IntRange(min=1),
    metavar="TOKENS",
    help="The policy's context window in tokens, where it cannot be detected.",
)
@click.option(
    "--probes",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Your own planted defects and pairs, in a TOML file (docs/check.md).",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@setting_options
@click.pass_context
def check(
    ctx: click.Context,
    against: str | None,
    context_window: int | None,
    probes: str | None,
    as_json: bool,
    config: str | None,
    **options: Any,
) -> None:
    """Examine policy, reward model and prompts before money is spent on them.

    The policy: are planted defects named by loss and gradient and fixed by the update, more often
    than rewrites spoil an answer, and better than by sampling again? The reward model: does it
    prefer obviously better answers, with raw scores that are the same in any batch? The prompts:
    do they fit the context window? What is not configured is left out. Exit code 1 means that
    something failed.
    """
    settings = Settings.load(options, config)
    if settings.model is None and settings.reward_model is None:
        raise ConfigurationError(
            "nothing to check: name a policy (--model), a reward model (--reward-model), or both"
        )
    if against is not None and settings.reward_model is None:
        raise click.UsageError("--against compares reward models: name one with --reward-model")

    # Past the cheap mistakes: only now the heavy imports.
    from tpo_graph.cli.findings import print_findings, progress
    from tpo_graph.concurrency.background import run_in_background

    with progress() as show:
        findings = run_in_background(
            _findings(
                show,
                model=settings.model,
                reward_model=settings.reward_model,
                critic=settings.critic,
                prompts=settings.prompts,
                options=settings,
                audit=settings.audit,
                against=against,
                context_window=context_window,
                probes=probes or configured_probes(config),
            )
        )
    if as_json:
        print_json([asdict(f) for f in findings], indent=2)
    else:
        print_findings(findings)
    ctx.exit(1 if any(finding.status == "fail" for finding in findings) else 0)


async def _findings(show: Callable[[str], None], **setup: Any) -> "list[Finding]":
    from tpo_graph.check import check_setup

    findings: list[Finding] = []
    async for finding in check_setup(**setup):
        findings.append(finding)
        show(f"{finding.part}: {finding.name} ({finding.status})")
    return findings
