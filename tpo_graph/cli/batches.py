"""`tpo batches`: what batches a database holds, how far they are, and which can go."""

from collections import Counter
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from tpo_graph.cli.display import for_tables
from tpo_graph.cli.options import database_option, with_store
from tpo_graph.cli.output import print_json, say

if TYPE_CHECKING:
    from tpo_graph.store import Store

_ERRORS = 10
"""Failed rows that `show` prints."""


@click.group()
def batches() -> None:
    """Look at stored batches, or delete them.

    NAME is what `tpo batch --name` said, else the path of its output; `list` shows it. Comparisons
    are batches, too: one per method and seed.
    """


@batches.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@database_option
def list_(as_json: bool, database: str) -> None:
    """List batches, the one last worked on first."""
    from tpo_graph.store.batches import list_batches

    found = with_store(database, list_batches)
    if as_json:
        for batch in found:
            print_json(batch)
        return
    table = Table("batch", "last worked on (UTC)", box=None, pad_edge=False)
    for title in ("rows", "answered", "failed"):
        table.add_column(title, justify="right")
    table.add_column("policy")
    for batch in found:
        table.add_row(
            Text(batch["name"]),
            f"{batch['updated_at']:%Y-%m-%d %H:%M}",
            *(str(batch[count]) for count in ("total", "finished", "failed")),
            Text(_policy(batch["launch"])),
        )
    for_tables().print(table)


@batches.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@database_option
def show(name: str, as_json: bool, database: str) -> None:
    """Show the settings of the batch NAME, how far it is, and why rows failed."""
    from tpo_graph.store.batches import batch_totals, get_batch_or_output, read_batch

    errors: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []

    async def work(store: "Store") -> Any:
        batch = await get_batch_or_output(store, name)
        async for item in read_batch(store, batch["name"]):
            if item.error is not None:
                errors[item.error] += 1
                rows.append({"id": item.row_id, "run_id": item.stored_run_id, "error": item.error})
        return batch, await batch_totals(store, batch["name"])

    batch, totals = with_store(database, work)
    if as_json:
        counted = {"rows": totals.counts, "usage": totals.usage, "errors": rows}
        print_json({**batch, **counted}, indent=2)
        return
    console = for_tables()
    console.print(Text(batch["name"], "bold"), soft_wrap=True)
    for title, values in (("settings", batch["settings"]), ("given", batch["launch"])):
        said = ", ".join(f"{k}={v!r}" for k, v in values.items() if v is not None and k != "names")
        console.print(Text(f"{title}: {said}"), soft_wrap=True)
    counts = ", ".join(f"{count} {status}" for status, count in sorted(totals.counts.items()))
    console.print(Text(f"rows: {counts or 'none'}"))
    tokens = sum(u["prompt_tokens"] + u["completion_tokens"] for u in totals.usage.values())
    console.print(Text(f"tokens: {tokens:,}"))
    for error, count in errors.most_common(_ERRORS):
        console.print(Text(f"{count} x {error}", "red"), soft_wrap=True)


@batches.command()
@click.argument("name")
@click.option("--runs", "with_runs", is_flag=True, help="Also delete the runs of its rows.")
@click.option("--dry-run", is_flag=True, help="Show what would be deleted, and delete nothing.")
@database_option
def rm(name: str, with_runs: bool, dry_run: bool, database: str) -> None:
    """Delete the batch NAME; its runs stay, unless --runs."""
    from tpo_graph.store.batches import get_batch_or_output
    from tpo_graph.store.pruning import remove_batch

    async def work(store: "Store") -> tuple[int, int]:
        batch = await get_batch_or_output(store, name)
        return await remove_batch(store, batch["name"], runs=with_runs, dry_run=dry_run)

    rows, runs = with_store(database, work)
    done = "would be deleted" if dry_run else "deleted"
    what = f"{rows} rows and {runs} runs" if with_runs else f"{rows} rows"
    say(f"{what} {done}")


def _policy(launch: dict[str, Any]) -> str:
    return str(launch.get("model") or launch.get("names", {}).get("policy") or "-")
