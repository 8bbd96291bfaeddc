"""`ChatBatched`: one local policy serving many runs at once, as a LangChain chat model.

`local:PATH` answers one call after the other. The study has hundreds of runs in flight: their
calls are gathered until none comes for a moment, then generated as padded batches. Equal calls (the
first samples of a query in several arms) are generated once, so arms start from equal replies.
"""

import asyncio
from functools import cache
from typing import Any, NamedTuple

import torch
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from transformers import AutoModelForCausalLM, AutoTokenizer

ROWS = 320
"""Sequences decoded at once."""
PAUSE = 1.0
"""Seconds without a new call after which a batch starts."""

# prompt, number of replies, (temperature, top_p, max_tokens, seed)
Call = tuple[str, int, tuple[float | None, float | None, int | None, int | None]]


class Replies(NamedTuple):
    """What one call gave."""

    texts: list[str]
    prompt_tokens: int
    completion_tokens: int
    """Of all texts together."""


class Engine:
    """The weights, the calls that wait, and the replies already made."""

    def __init__(self, path: str) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(path, padding_side="left")
        self.model: Any = AutoModelForCausalLM.from_pretrained(path).eval()
        self.waiting: dict[Call, asyncio.Future[Replies]] = {}
        self.timer: asyncio.Task[None] | None = None
        self.busy = asyncio.Lock()

    async def reply(self, call: Call) -> Replies:
        """The replies to one call, once its batch has been generated."""
        if call not in self.waiting:
            self.waiting[call] = asyncio.get_running_loop().create_future()
            if self.timer is not None:
                self.timer.cancel()
            self.timer = asyncio.create_task(self._after_pause())
        return await self.waiting[call]

    async def _after_pause(self) -> None:
        await asyncio.sleep(PAUSE)
        self.timer = None
        async with self.busy:
            calls = [call for call, future in self.waiting.items() if not future.done()]
            for settings in sorted({call[1:] for call in calls}, key=repr):
                # in the order of length, then text: the same batches whoever came first
                group = sorted(
                    (call for call in calls if call[1:] == settings),
                    key=lambda call: (len(call[0]), call[0]),
                )
                size = max(1, ROWS // settings[0])
                for start in range(0, len(group), size):
                    batch = group[start : start + size]
                    try:
                        replies = await asyncio.to_thread(self._generate, batch)
                    except Exception as error:
                        for call in batch:
                            self.waiting[call].set_exception(error)
                        raise
                    for call, made in zip(batch, replies, strict=True):
                        self.waiting[call].set_result(made)

    @torch.inference_mode()
    def _generate(self, batch: list[Call]) -> list[Replies]:
        _, n, (temperature, top_p, max_tokens, seed) = batch[0]
        if seed is not None:
            torch.manual_seed(seed)
        inputs = self.tokenizer(
            [call[0] for call in batch], add_special_tokens=False, padding=True, return_tensors="pt"
        )
        asked = inputs["attention_mask"].sum(1).tolist()
        made = self._sample(inputs, n, temperature or 1.0, top_p or 1.0, max_tokens or 256)
        texts: list[str] = self.tokenizer.batch_decode(made, skip_special_tokens=True)
        written = [len(tokens) for tokens in made]
        return [
            Replies(texts[i * n : (i + 1) * n], asked[i], sum(written[i * n : (i + 1) * n]))
            for i in range(len(batch))
        ]

    def _sample(
        self, inputs: Any, n: int, temperature: float, top_p: float, most: int
    ) -> list[list[int]]:
        """n replies to each prompt. A prompt is read once for all of its replies, and a reply that
        has ended leaves the batch: `generate` does neither, and takes twice as long here."""
        mask = inputs["attention_mask"]
        read = self.model(**inputs, position_ids=_positions(mask), logits_to_keep=1)
        past, logits = read.past_key_values, read.logits[:, -1].repeat_interleave(n, 0)
        past.batch_repeat_interleave(n)
        mask = mask.repeat_interleave(n, 0)
        made: list[list[int]] = [[] for _ in range(len(mask))]
        rows = torch.arange(len(mask))
        while True:
            ranked, order = (logits / temperature).softmax(-1).sort(descending=True)
            ranked[ranked.cumsum(-1) - ranked >= top_p] = 0  # the first always stays
            drawn = order.gather(1, torch.multinomial(ranked, 1))
            for row, token in zip(rows.tolist(), drawn[:, 0].tolist(), strict=True):
                made[row].append(token)
            going = (drawn[:, 0] != self.model.config.eos_token_id).nonzero()[:, 0]
            if not len(going) or len(made[int(rows[going[0]])]) >= most:
                return made
            if len(going) < len(rows):
                rows, mask, drawn = rows[going], mask[going], drawn[going]
                past.batch_select_indices(going)
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], 1)
            logits = self.model(drawn, mask, _positions(mask)[:, -1:], past).logits[:, -1]


def _positions(mask: torch.Tensor) -> torch.Tensor:
    """Those of left-padded rows: the first token of each is at 0."""
    return (mask.cumsum(1) - 1).clamp(min=0)


engine = cache(Engine)


class ChatBatched(BaseChatModel):
    """A chat model whose concurrent calls share batches; asynchronous only."""

    path: str
    """Folder of the policy."""
    n: int = 1
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None

    @property
    def _llm_type(self) -> str:
        return "offline-batched"

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None]) -> dict[str, Any]:
        return llm_outputs[0] or {}  # one prompt a call; LangChain's own drops the usage

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError("the study runs its graphs with ainvoke")

    async def _agenerate(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> ChatResult:
        held = engine(self.path)
        turns = [{"role": "user", "content": message.text} for message in messages]
        prompt = held.tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True
        )
        settings = (self.temperature, self.top_p, self.max_tokens, self.seed)
        made = await held.reply((prompt, self.n, settings))
        return ChatResult(
            generations=[ChatGeneration(message=AIMessage(text)) for text in made.texts],
            llm_output={
                "token_usage": {
                    "prompt_tokens": made.prompt_tokens,
                    "completion_tokens": made.completion_tokens,
                }
            },
        )
