"""Who may look: this machine without a key, others with one, a browser's user as a password."""

import base64
import hmac
import socket
from urllib.parse import urlsplit

from pydantic import SecretStr
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tpo_graph.errors import ConfigurationError

LOCAL_HOSTS = ["localhost", "127.0.0.1", "[::1]", "::1"]
CHALLENGE = {"WWW-Authenticate": 'Basic realm="tpo (any user name, the API key as password)"'}
"""Makes a browser ask its user for the key."""


def has_key(scope: Scope, key: SecretStr) -> bool:
    """Whether a request brings the key, as a bearer token or as the password of a browser."""
    headers = dict(scope["headers"])
    kind, _, sent = headers.get(b"authorization", b"").partition(b" ")
    if kind.lower() == b"basic":  # a browser's; any user name will do
        try:
            sent = base64.b64decode(sent).partition(b":")[2]
        except ValueError:
            return False
    return hmac.compare_digest(sent.strip(), key.get_secret_value().encode())


def from_own_page(request: HTTPConnection) -> bool:
    """Whether a form was sent by a page of this server, and not by one of another site.

    A browser adds these headers itself, and no script of a page can change them; it sends the
    user's password along whichever site a form is on.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = urlsplit(request.headers.get("origin", ""))
    return bool(origin.netloc) and origin.netloc == request.headers.get("host")


class Locked:
    """Lets requests with the key in."""

    def __init__(self, app: ASGIApp, key: SecretStr) -> None:
        self._app = app
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        app = self._app
        if scope["type"] == "http" and not has_key(scope, self._key):
            app = PlainTextResponse("the API key is missing or wrong", 401, CHALLENGE)
        await app(scope, receive, send)


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ConfigurationError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        found = socket.create_server((host.strip("[]"), port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror}. "
            "Give another --port, or end what listens there."
        ) from error
    found.set_inheritable(True)
    return found


def address(taken: socket.socket) -> str:
    """The URL of a socket that listens."""
    host, port = taken.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
