"""An OpenAI-compatible server that answers at once, with replies encoded beforehand.

A process of its own, on the last core it may use: what a client can do beside it is the client's
ceiling. `python -m benchmarks.instant_server` prints its base URL.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SENTENCE = "The answer says what was asked for, in order, and no more than that. "
WORDS = 350
"""Of each reply, about."""

_N = re.compile(rb'"n":\s*(\d+)')
_LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)


def _response(n: int) -> bytes:
    text = SENTENCE * (WORDS // len(SENTENCE.split()))
    choices = [
        {
            "index": index,
            "message": {
                "role": "assistant",
                "content": f"<improved_answer>{index} {text}</improved_answer>",
                "refusal": None,
            },
            "finish_reason": "stop",
            "logprobs": None,
        }
        for index in range(n)
    ]
    body = json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "instant",
            "choices": choices,
            "usage": {
                "prompt_tokens": 1500,
                "completion_tokens": 400 * n,
                "total_tokens": 1500 + 400 * n,
                "prompt_tokens_details": {"cached_tokens": 1000},
            },
        }
    ).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


class _Protocol(asyncio.Protocol):
    responses = {n: _response(n) for n in range(1, 17)}  # noqa: RUF012

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.received = transport, b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if found and length and len(body) >= int(length[1]):
            n = _N.search(body)
            self.received = b""
            self.transport.write(self.responses[int(n[1]) if n else 1])


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Protocol, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


@contextmanager
def instant_server() -> Iterator[str]:
    """Run the server on the last core and this process on the first; yields its base URL."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    arguments = [sys.executable, "-m", "benchmarks.instant_server"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        try:
            if cores:
                os.sched_setaffinity(process.pid, {cores[-1]})
                os.sched_setaffinity(0, {cores[0]})
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            if cores:
                os.sched_setaffinity(0, cores)
            process.kill()


if __name__ == "__main__":
    asyncio.run(_serve())
