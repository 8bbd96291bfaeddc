"""Real local servers that speak vLLM's and SGLang's reward formats, wrong defaults included.

In a test: `with RewardServer("vllm", folder) as server`, then use `server.url`. Behind it is the
tiny classifier in `folder`, scored one by one by plain transformers, so that remote can be compared
with local. `server.script.append(Behaviour(status=429))` makes the next request misbehave.

What is reproduced on purpose: vLLM squashes with a sigmoid unless `use_activation` is false, reads
control tokens out of messages, and adds a BOS to text in `input` unless told not to; SGLang adds a
BOS to `text`, and its /v1/classify takes the softmax over one label.
"""

import asyncio
import json
import threading
import time
from collections import deque
from functools import cache
from typing import Any, Literal

from aiohttp import web

from tests.openai_server import Behaviour, _reset, _send
from tests.server_thread import ServerThread


@cache
def _loaded(folder: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    return AutoTokenizer.from_pretrained(folder), model.eval()


class RewardServer(ServerThread):
    """The server; a context manager that runs it on a thread of its own.

    Args:
        kind: whose formats to speak.
        folder: the classifier.
        model: the name it is served under.
        api_key: when given, asked for.
        routes: the paths it knows; None: all that the real one has.
    """

    def __init__(
        self,
        kind: Literal["vllm", "sglang"],
        folder: str,
        *,
        model: str = "rm",
        api_key: str | None = None,
        routes: tuple[str, ...] | None = None,
    ) -> None:
        self.folder, self.model, self.api_key = folder, model, api_key
        known = {
            "vllm": {"/classify": self._vllm_classify, "/pooling": self._vllm_pooling},
            "sglang": {"/classify": self._sglang_native, "/v1/classify": self._sglang_openai},
        }[kind]
        self.routes = {path: known[path] for path in routes or known}
        self.script: deque[Behaviour] = deque()
        """Behaviours of the next requests, one each; then good behaviour."""
        self.calls: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        """(path, body, headers with lower-case names) of every request."""
        self.in_flight = self.most_in_flight = 0
        self.arrived = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def handlers(self) -> list[web.RouteDef]:
        return [web.route("*", "/{path:.*}", self._handle)]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.calls.append((request.path, body, headers))
        behaviour = self.script.popleft() if self.script else Behaviour()
        self.in_flight += 1
        self.arrived.set()
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(behaviour.delay)
            if behaviour.hang:
                await asyncio.Event().wait()
            if behaviour.reset:
                await _reset(request)
            status, reply = self._reply(request.path, body, headers)
            if behaviour.status != 200:
                status, reply = behaviour.status, {"error": behaviour.error or "scripted"}
            payload = json.dumps(reply).encode()
            if behaviour.contents is not None:
                payload = (behaviour.contents[0] or "").encode()
            return await _send(request, payload, status, behaviour.headers)
        finally:
            self.in_flight -= 1

    def _reply(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any]:
        if self.api_key and headers.get("authorization") != f"Bearer {self.api_key}":
            return 401, {"error": "Unauthorized"}
        if path not in self.routes:
            return 404, {"detail": "Not Found"}
        if body.get("model") not in (None, self.model):
            message = f"The model `{body['model']}` does not exist."
            return 404, {"error": {"message": message, "type": "NotFoundError", "code": 404}}
        try:
            return 200, self.routes[path](body)
        except ValueError as error:
            return 400, {"error": {"message": str(error), "type": "BadRequestError", "code": 400}}

    def _logits(self, ids: list[int], too_long: str) -> list[float]:
        import torch

        _, model = _loaded(self.folder)
        limit = model.config.max_position_embeddings
        if len(ids) > limit:
            raise ValueError(too_long.format(limit=limit, count=len(ids)))
        with torch.no_grad():
            return model(torch.tensor([ids])).logits[0].tolist()

    def _texts(self, given: Any, add_special_tokens: bool) -> list[list[int]]:
        tokenizer, _ = _loaded(self.folder)
        if isinstance(given, str) or (given and isinstance(given[0], int)):
            given = [given]
        return [
            tokenizer.encode(item, add_special_tokens=add_special_tokens)
            if isinstance(item, str)
            else item
            for item in given
        ]

    def _vllm_rows(self, body: dict[str, Any]) -> list[list[float]]:
        import torch

        if "messages" in body:
            tokenizer, _ = _loaded(self.folder)
            text = tokenizer.apply_chat_template(body["messages"], tokenize=False)
            rows = self._texts(text, body.get("add_special_tokens", False))
        else:
            rows = self._texts(body["input"], body.get("add_special_tokens", True))
        too_long = (
            "This model's maximum context length is {limit} tokens. However, you requested {count} "
            "tokens in the input. Please reduce the length of the input."
        )
        logits = [self._logits(ids, too_long) for ids in rows]
        if body.get("use_activation", True) is False:
            return logits
        squash = torch.sigmoid if len(logits[0]) == 1 else lambda t: torch.softmax(t, -1)
        return [squash(torch.tensor(row)).tolist() for row in logits]

    def _vllm_classify(self, body: dict[str, Any]) -> Any:
        data = [
            {"index": index, "label": "LABEL_0", "probs": row, "num_classes": len(row)}
            for index, row in enumerate(self._vllm_rows(body))
        ]
        return self._listed("classify", data)

    def _vllm_pooling(self, body: dict[str, Any]) -> Any:
        if body.get("task") != "classify":
            raise ValueError(f"Unsupported task: {body.get('task')!r}")
        data = [
            {"index": index, "object": "pooling", "data": row}
            for index, row in enumerate(self._vllm_rows(body))
        ]
        return self._listed("pool", data)

    def _listed(self, prefix: str, data: list[Any]) -> Any:
        usage = {"prompt_tokens": 1, "total_tokens": 1, "completion_tokens": 0}
        return {
            "id": f"{prefix}-1",
            "object": "list",
            "created": int(time.time()),
            "model": self.model,
            "data": data,
            "usage": usage,
        }

    def _sglang_rows(self, given: Any) -> list[list[float]]:
        too_long = (
            "The input ({count} tokens) is longer than the model's context length ({limit} tokens)."
        )
        return [self._logits(ids, too_long) for ids in self._texts(given, True)]

    def _sglang_native(self, body: dict[str, Any]) -> Any:
        if ("text" in body) == ("input_ids" in body):
            raise ValueError("Either text or input_ids should be provided.")
        given = body.get("text", body.get("input_ids"))
        replies = [
            {"embedding": row, "meta_info": {"id": "1", "finish_reason": None, "prompt_tokens": 1}}
            for row in self._sglang_rows(given)
        ]
        single = isinstance(given, str) or isinstance(given[0], int)
        return replies[0] if single else replies

    def _sglang_openai(self, body: dict[str, Any]) -> Any:
        import torch

        data = [
            {
                "index": index,
                "label": "LABEL_0",
                "probs": torch.softmax(torch.tensor(row), -1).tolist(),
            }
            for index, row in enumerate(self._sglang_rows(body["input"]))
        ]
        return self._listed("classify", [{**row, "num_classes": len(row["probs"])} for row in data])
