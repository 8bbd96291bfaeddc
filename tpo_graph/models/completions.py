"""A leaner `chat.completions` for ChatOpenAI and kin.

The openai package checks requests against its types and builds typed objects of replies, which
ChatOpenAI takes apart again: more work than the HTTP exchange. This sends ChatOpenAI's request as
it is, through the same openai client (keys, headers, retries and errors are that client's), and
hands back plain JSON, which ChatOpenAI accepts as well.
"""

import json
from typing import Any

import httpx2

FILTERED = "filtered"


class Completions:
    """Stands in for `chat.completions` of an AsyncOpenAI or AsyncAzureOpenAI; what it does not
    speed up, it passes on."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client.chat.completions, name)

    @property
    def with_raw_response(self) -> "_Raw":
        """Where ChatOpenAI calls `create`."""
        return _Raw(self._client)


class _Raw:
    def __init__(self, client: Any) -> None:
        self._client = client

    async def create(
        self,
        *,
        extra_headers: Any = None,
        extra_query: Any = None,
        extra_body: Any = None,
        **body: Any,
    ) -> "_Reply":
        options = {"headers": extra_headers, "params": extra_query, "extra_json": extra_body}
        if "timeout" in body:
            options["timeout"] = body.pop("timeout")
        response = await self._client.post(
            "/chat/completions",
            cast_to=httpx2.Response,
            body=body,
            options={name: value for name, value in options.items() if value is not None},
        )
        return _Reply(response)


class _Reply:
    """What ChatOpenAI reads of a raw response."""

    def __init__(self, http_response: httpx2.Response) -> None:
        self.http_response = http_response
        self.headers = http_response.headers

    def parse(self) -> Any:
        """The completion as JSON, in which a refusal without text has become the text.

        A sample that was filtered is named otherwise: AzureChatOpenAI raises for all N of a request
        when one was.

        Raises:
            ValueError: the body is not JSON.
        """
        completion: dict[str, Any] = json.loads(self.http_response.content)
        for choice in completion.get("choices") or ():
            if choice.get("finish_reason") == "content_filter":
                choice["finish_reason"] = FILTERED
            message: dict[str, Any] = choice.get("message") or {}
            if not message.get("content") and message.get("refusal"):
                message["content"] = message["refusal"]
        return completion
