"""The simulated engine behind HTTP: an OpenAI-compatible server in real time, sped up if asked.

    python -m benchmarks.simulated_server --model 70b --speed 20

prints its base URL, and counts what it has done at /totals. `benchmarks.throughput --http` compares
it with the same engine in virtual time.
"""

import argparse
import asyncio
import json
from dataclasses import asdict
from typing import Any

from aiohttp import web
from langchain_core.messages import convert_to_messages

from benchmarks.engine import CHARACTERS_PER_TOKEN, MODELS, Engine
from benchmarks.simulated_model import Replies, prompt_text


class Server:
    """Chat completions whose lengths are drawn and whose texts say nothing."""

    def __init__(self, model: str, speed: float, seed: int) -> None:
        self._latency, self._speed = MODELS[model], speed
        self._engine = Engine(self._latency, speed)
        self._replies = Replies(seed)

    async def complete(self, request: web.Request) -> web.Response:
        """POST /v1/chat/completions."""
        body: dict[str, Any] = json.loads(await request.read())
        messages = convert_to_messages([(m["role"], m["content"]) for m in body["messages"]])
        prompt, lengths = prompt_text(messages), self._replies.lengths(body.get("n") or 1)
        texts = [self._replies.text(length) for length in lengths]
        cached = await self._engine.generate(prompt, texts)
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            }
            for index, text in enumerate(texts)
        ]
        tokens = len(prompt) // CHARACTERS_PER_TOKEN
        usage = {
            "prompt_tokens": tokens,
            "completion_tokens": sum(lengths),
            "total_tokens": tokens + sum(lengths),
            "prompt_tokens_details": {"cached_tokens": cached},
        }
        return web.json_response(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": body["model"],
                "choices": choices,
                "usage": usage,
            }
        )

    async def totals(self, request: web.Request) -> web.Response:
        """GET /totals: tokens so far, and the real seconds that they need at least."""
        totals = self._engine.totals
        bound = totals.seconds(self._latency) / self._speed
        return web.json_response({**asdict(totals), "bound": bound})


async def _serve(model: str, speed: float, seed: int) -> None:
    server = Server(model, speed, seed)
    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/chat/completions", server.complete)
    app.router.add_get("/totals", server.totals)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=list(MODELS), default="70b")
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    asyncio.run(_serve(options.model, options.speed, options.seed))
