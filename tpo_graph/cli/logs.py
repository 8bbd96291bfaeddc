"""What the library logs, on standard error: warnings as they are, more on request, also as JSON."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

from tpo_graph.cli.output import visible
from tpo_graph.redaction import redacted

LEVELS = ("debug", "info", "warning", "error")
_ALWAYS = set(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
"""Attributes that every record has; the others are a record's own fields."""


def guard_logs() -> None:
    """Make warnings of the library, which Python prints where nobody configures logging, visible
    text without secrets as well; psycopg's own, which come at every attempt to connect, are left
    out: the library says once that it waits for a server."""
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Line())


def show_logs(
    level: str, as_json: bool, line: str = "%(asctime)s %(levelname)s %(message)s"
) -> None:
    """Write the library's records from this level on to standard error, one per line.

    Args:
        level: one of `LEVELS`.
        as_json: as objects with time, level, logger, message and the record's own fields.
        line: what is written otherwise, as `logging.Formatter` takes it.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if as_json else _Line(line))
    logger = logging.getLogger("tpo_graph")
    logger.handlers = [handler]
    logger.setLevel(level.upper())


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible(redacted(super().format(record)))


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        found: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        found |= {name: value for name, value in vars(record).items() if name not in _ALWAYS}
        if record.exc_info:
            found["exception"] = self.formatException(record.exc_info)
        # As values, so that what is left is still JSON.
        return json.dumps(redacted(found), default=lambda value: redacted(str(value)))
