"""Who is let in, and how much at once."""

from collections.abc import Iterator

import httpx
import pytest

from tests.serve.serving import ASKED, TPO, Serving
from tpo_graph.errors import ConfigurationError
from tpo_graph.serve.options import ServeOptions

KEY = "key-of-this-server-4711"


@pytest.fixture(scope="module")
def locked() -> Iterator[Serving]:
    with Serving(options={"api_key": KEY, "max_body": 2_000}) as serving:
        yield serving


@pytest.mark.parametrize("sent", ["wrong", KEY + "x", "é"])
def test_without_the_key_nothing_is_answered(locked: Serving, sent: str):
    headers = httpx.Headers([(b"authorization", f"Bearer {sent}".encode())])
    for path in ("/v1/models", "/", "/v1/tpo/runs/x", "/anything"):
        reply = httpx.get(f"{locked.url}{path}", headers=headers)
        assert reply.status_code == 401
        assert reply.json()["error"]["code"] == "invalid_api_key"
    assert locked.post({"model": TPO, "messages": ASKED}, headers=headers).status_code == 401
    assert locked.calls() == 0


def test_the_key_opens_and_probes_need_none(locked: Serving):
    assert locked.client(api_key=KEY).models.list().data
    assert httpx.get(f"{locked.url}/v1/models", auth=("anybody", KEY)).status_code == 200
    for path in ("/health", "/ready", "/metrics"):
        assert httpx.get(f"{locked.url}{path}").status_code == 200
    told = httpx.get(f"{locked.url}/metrics").text
    assert "tpo_requests_total" in told
    assert KEY not in told


def test_a_body_has_a_limit_and_is_json(locked: Serving):
    long = {"model": TPO, "messages": [{"role": "user", "content": "x" * 3_000}]}
    headers = {"Authorization": f"Bearer {KEY}"}
    assert locked.post(long, headers=headers).status_code == 413

    def parts() -> Iterator[bytes]:  # no Content-Length
        for _ in range(50):
            yield b" " * 100

    url = f"{locked.url}/v1/chat/completions"
    json = {**headers, "Content-Type": "application/json"}
    assert httpx.post(url, content=parts(), headers=json).status_code == 413
    assert httpx.post(url, content=b"{]", headers=json).status_code == 400
    assert httpx.post(url, content=b"[" * 1_900, headers=json).status_code == 400
    assert httpx.post(url, content=b"{}", headers=headers).status_code == 415


def test_a_page_of_another_site_reaches_nothing():
    with Serving() as server:
        told = httpx.get(f"{server.url}/v1/models", headers={"Host": "evil.example"})
        assert told.status_code == 400
        assert "access-control-allow-origin" not in told.headers


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_other_machines_are_let_in_only_with_a_key(host: str):
    with pytest.raises(ConfigurationError, match="TPO_SERVE_API_KEY"):
        ServeOptions.load({"host": host})
    assert ServeOptions.load({"host": host, "api_key": KEY})
