"""The command line: commands parse, call the library, print. They hold no logic of their own.

Answers go to stdout, everything else to stderr. Exit codes: 0 done, 1 a model, the reward model,
the database or a check failed (an answer from before is printed all the same), 2 wrong usage or
configuration, or a run or batch that is not there, 130 and 143 stopped by SIGINT and SIGTERM.
"""

import errno
import io
import os
import sys

import click

from tpo_graph.cli.analyze import analyze
from tpo_graph.cli.batch import batch
from tpo_graph.cli.batches import batches
from tpo_graph.cli.benchmark import benchmark
from tpo_graph.cli.check import check
from tpo_graph.cli.compare import compare
from tpo_graph.cli.db import db
from tpo_graph.cli.logs import LEVELS, guard_logs, show_logs
from tpo_graph.cli.output import say, visible
from tpo_graph.cli.report import report
from tpo_graph.cli.run import run
from tpo_graph.cli.runs import runs
from tpo_graph.cli.serve import serve
from tpo_graph.cli.view import view

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What the system says of a file that takes no more."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tpo-graph", prog_name="tpo")
@click.option(
    "--log-level",
    type=click.Choice(LEVELS, case_sensitive=False),
    envvar="TPO_LOG_LEVEL",
    help="Write log records from this level on to standard error.  [default: warning]",
)
@click.option(
    "--log-json",
    is_flag=True,
    envvar="TPO_LOG_JSON",
    help="Write log records as JSON Lines; from level info on, unless --log-level is given.",
)
def tpo(log_level: str | None, log_json: bool) -> None:
    """Test-Time Preference Optimization: better answers from a frozen model, while it answers.

    Every option can also be set in the environment (TPO_DEPTH=3 for --depth 3) or in a TOML file:
    the one given with --config, or else tpo.toml in the working directory. Options win over the
    environment, and that over the file.
    """
    if log_level or log_json:
        show_logs(log_level or "info", log_json)


tpo.add_command(run)
tpo.add_command(batch)
tpo.add_command(batches)
tpo.add_command(runs)
tpo.add_command(serve)
tpo.add_command(check)
tpo.add_command(benchmark)
tpo.add_command(report)
tpo.add_command(view)
tpo.add_command(db)
tpo.add_command(compare)
tpo.add_command(analyze)


def main() -> None:
    """Entry point of the `tpo` command."""
    from tpo_graph.errors import ConfigurationError, RunNotFoundError, TPOError
    from tpo_graph.redaction import redacted

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # An answer that was paid for is printed, whatever the terminal's encoding lacks.
            stream.reconfigure(errors="backslashreplace")
    guard_logs()
    try:
        sys.exit(tpo(standalone_mode=False))
    except click.ClickException as e:
        e.message = visible(redacted(e.message))  # pyright: ignore[reportAttributeAccessIssue]
        e.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except TPOError as e:
        say(f"Error: {redacted(str(e))}")
        sys.exit(2 if isinstance(e, (ConfigurationError, RunNotFoundError)) else 1)
    except OSError as e:
        if e.errno not in _UNWRITABLE:
            raise
        # What is buffered could not be written either, and Python would try again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        say(f"Error: the output cannot be written: {e.strerror}")
        sys.exit(1)
