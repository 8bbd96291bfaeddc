"""`tpo view`: the pages of one database, without any model."""

import socket

import uvicorn
from pydantic import SecretStr
from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from tpo_graph.costs import CostTable
from tpo_graph.errors import ConfigurationError
from tpo_graph.store.reading import Readable
from tpo_graph.view.access import LOCAL_HOSTS, Locked
from tpo_graph.view.app import Pages
from tpo_graph.view.loopback import is_loopback

_END_SECONDS = 2
"""For how long open pages may hold up the end."""


def application(
    database: Readable,
    host: str,
    key: SecretStr | None = None,
    costs: CostTable | None = None,
    writing: Engine | None = None,
) -> Starlette:
    """The pages of an open database.

    Args:
        host: the address it listens on.
        key: what requests must bring; without one, only this machine is let in.
        costs: prices of models.
        writing: where people's labels are kept; without it nothing is written.

    Raises:
        ConfigurationError: others than this machine could look, without a key.
    """
    if key is not None:
        middleware = Middleware(Locked, key=key)
    elif is_loopback(host):
        # No page of another site may reach it by a name of its own.
        middleware = Middleware(TrustedHostMiddleware, allowed_hosts=[*LOCAL_HOSTS, host])
    else:
        raise ConfigurationError(
            f"--host {host!r} shows the runs to other machines, and there is no key. "
            "Set TPO_VIEW_API_KEY, which a browser asks for as a password, or listen on 127.0.0.1."
        )
    return Starlette(
        routes=Pages(lambda _: database, costs, writing).routes, middleware=[middleware]
    )


def serve(app: Starlette, taken: socket.socket) -> None:
    """Answer requests until a signal comes."""
    config = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=_END_SECONDS,
        ws="none",  # nothing here speaks it, and finding an implementation imports one
    )
    uvicorn.Server(config).run(sockets=[taken])
