"""An OpenAI-compatible server that answers at once, with replies encoded beforehand.

A process of its own, on the last core it may use: what a client can do beside it is the client's
ceiling. `python -m benchmarks.instant_server` prints its base URL; with two numbers, each reply
comes after a random time between them, in seconds. `GET /replies` lists the replies so far to
prompts that say "Question 17:", as pairs of 17 and the time of `time.monotonic`.
"""

import asyncio
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

SENTENCE = "The answer says what was asked for, in order, and no more than that. "
WORDS = 350
"""Of each reply, about."""

_QUESTION = re.compile(rb"Question (\d+):")
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


def _json(value: object) -> bytes:
    body = json.dumps(value).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


class _Protocol(asyncio.Protocol):
    responses = {n: _response(n) for n in range(1, 17)}  # noqa: RUF012
    seconds: tuple[float, float] | None = None
    replies: list[tuple[int, float]] = []  # noqa: RUF012

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.received = transport, b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        if found and head.startswith(b"GET"):
            self.received = b""
            self.transport.write(_json(self.replies))
            return
        length = _LENGTH.search(head)
        if found and length and len(body) >= int(length[1]):
            n = _N.search(body)
            question = _QUESTION.search(body)
            self.received = b""
            answer = self.responses[int(n[1]) if n else 1], question and int(question[1])
            if self.seconds is None:
                self._reply(*answer)
            else:
                wait = random.uniform(*self.seconds)
                asyncio.get_running_loop().call_later(wait, self._reply, *answer)

    def _reply(self, response: bytes, question: int | None) -> None:
        if question is not None:
            self.replies.append((question, time.monotonic()))
        self.transport.write(response)


async def _serve(seconds: Sequence[float]) -> None:
    if seconds:
        low, high = seconds
        _Protocol.seconds = low, high
    server = await asyncio.get_running_loop().create_server(_Protocol, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


@contextmanager
def instant_server(*seconds: float) -> Iterator[str]:
    """Run the server on the last core and this process on the first; yields its base URL.

    Args:
        seconds: each reply comes after a random time between these two; none: at once.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    arguments = [sys.executable, "-m", "benchmarks.instant_server", *map(str, seconds)]
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
    asyncio.run(_serve([float(each) for each in sys.argv[1:]]))
