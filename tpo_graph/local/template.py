"""Turns to token ids through a model's own chat template, for local policies and reward models.

Only the template writes control tokens. "<|im_start|>" typed by a person, or written by a policy
that wants a better reward, is encoded as the characters it is made of.
"""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from tpo_graph.conversation import Turn, well_formed
from tpo_graph.errors import ConfigurationError, TPOError

_ORDINARY = ("user", "assistant", "user")
_PRIVATE_USE = range(0xE000, 0xF8FF)


class ChatTemplate:
    """The chat template of one tokenizer. Not safe for several threads at once.

    Errors call it `source`, and are of the class `error` where a conversation cannot be encoded.

    Raises:
        ConfigurationError: the tokenizer has no chat template.
    """

    def __init__(self, tokenizer: Any, source: str, error: type[TPOError]) -> None:
        try:
            self.text: str = tokenizer.get_chat_template()
        except ValueError as cause:
            raise ConfigurationError(
                f"{source!r} has no chat template, so how it reads a conversation is unknown. "
                "Name a chat model, or add chat_template.jinja to its folder."
            ) from cause
        self._tokenizer = tokenizer
        self._source = source
        self._error = error
        self._takes_system = True
        # Some families (DeepSeek) do not flag their turn markers as special: see what gets written.
        written = ""
        with suppress(error):
            written = self._render([Turn(role=r, content="x") for r in _ORDINARY], reply=False)
        self._control: dict[str, Any] = {
            token.content: token
            for token in tokenizer.added_tokens_decoder.values()
            if token.special or (token.content in written and not token.content.isspace())
        }
        longest_first = sorted(self._control, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._plain: Any = None
        start = tokenizer.encode("", add_special_tokens=True)[:1]
        self._bos: list[int] = start if start == [tokenizer.bos_token_id] else []

    def encode(self, turns: Sequence[Turn], *, reply: bool, one_bos: bool = False) -> list[int]:
        """Token ids of the conversation.

        Args:
            turns: the messages, in order.
            reply: end with the header after which the assistant writes.
            one_bos: begin with the BOS token that the tokenizer would add, if the template wrote
                none. Without it the ids are those of `apply_chat_template`.
        """
        turns = [Turn(role=turn["role"], content=well_formed(turn["content"])) for turn in turns]
        marks = self._marks(turns)
        text = self._render([self._marked(turn, marks) for turn in turns], reply)
        if marks:
            ids = self._encode_marked(text, marks)
        else:
            # Not verbose: whoever asked says in an error of ours what is too long.
            ids = self._tokenizer.encode(text, add_special_tokens=False, verbose=False)
        return [*self._bos, *ids] if one_bos and ids[:1] != self._bos else ids

    def _render(self, turns: Sequence[Turn], reply: bool) -> str:
        from jinja2 import TemplateError

        if not self._takes_system:
            turns = _without_system(turns)
        try:
            return self._tokenizer.apply_chat_template(
                list(turns), tokenize=False, add_generation_prompt=reply
            )
        except (TemplateError, ValueError, TypeError) as cause:
            if self._takes_system and any(turn["role"] == "system" for turn in turns):
                # Gemma and older Mistral know no system role: found out here, once per template.
                with suppress(self._error):
                    self._takes_system = False
                    return self._render(turns, reply)
                self._takes_system = True
            roles = [turn["role"] for turn in turns]
            raise self._error(
                f"the chat template of {self._source!r} refuses a conversation of {roles!r}: "
                f"{cause}. Leave out the turn it cannot take, or use another model."
            ) from cause

    def _marks(self, turns: Sequence[Turn]) -> str:
        """Two characters that no turn contains, if control tokens were typed in one; else ""."""
        if not any(self._pattern.search(turn["content"]) for turn in turns):
            return ""
        used = set("".join(turn["content"] for turn in turns)) | set(self.text)
        free = (chr(code) for code in _PRIVATE_USE if chr(code) not in used)
        return next(free) + next(free)

    def _marked(self, turn: Turn, marks: str) -> Turn:
        # The template must not see typed control tokens, and nothing it writes may join up to one.
        if not marks:
            return turn
        names = list(self._control)
        typed = self._pattern.sub(
            lambda found: f"{marks[0]}{names.index(found[0])}{marks[1]}", turn["content"]
        )
        return Turn(role=turn["role"], content=typed)

    def _encode_marked(self, text: str, marks: str) -> list[int]:
        names = list(self._control)
        mark = re.compile(f"{marks[0]}(\\d+){marks[1]}")
        ids: list[int] = []
        end = 0
        strip = False
        for found in [*self._pattern.finditer(text), None]:
            section = text[end : found.start() if found else None]
            # A tokenizer's own split at control tokens eats the blanks that the token asks for.
            section = section.lstrip() if strip else section
            section = section.rstrip() if found and self._control[found[0]].lstrip else section
            ids += self._encode_text(mark.sub(lambda typed: names[int(typed[1])], section))
            if found:
                ids.append(self._tokenizer.convert_tokens_to_ids(found[0]))
                end, strip = found.end(), self._control[found[0]].rstrip
        return ids

    def _encode_text(self, text: str) -> list[int]:
        if not text:
            return []
        if self._plain is None:
            self._plain = _without_tokens(self._tokenizer, set(self._control))
        # By name: the copy numbers the added tokens that it kept anew.
        pieces = self._plain.encode(text, add_special_tokens=False).tokens
        ids: list[int] = self._tokenizer.convert_tokens_to_ids(pieces)
        forged = {self._tokenizer.convert_tokens_to_ids(name) for name in self._control}
        if forged.intersection(ids) - {self._tokenizer.unk_token_id}:
            raise self._error(
                f"the tokenizer of {self._source!r} reads control tokens out of plain text such as "
                f"{text[:80]!r}. Remove them from the conversation."
            )
        return ids


def _without_system(turns: Sequence[Turn]) -> list[Turn]:
    """The turns without the system role: its text stands before the next user's text."""
    found: list[Turn] = []
    waiting: list[str] = []
    for turn in turns:
        if turn["role"] == "system":
            waiting.append(turn["content"])
        elif turn["role"] == "user":
            content = "\n\n".join([*waiting, turn["content"]])
            found.append(Turn(role="user", content=content))
            waiting = []
        else:
            found.append(turn)
    return [*found, Turn(role="user", content="\n\n".join(waiting))] if waiting else found


def _without_tokens(tokenizer: Any, names: set[str]) -> Any:
    """A copy of the tokenizer's Rust backend to which `names` are ordinary text."""
    from tokenizers import Tokenizer

    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    parts["added_tokens"] = [t for t in parts["added_tokens"] if t["content"] not in names]
    parts["post_processor"] = None
    plain = json.dumps(parts)
    # Sections follow control tokens, so none is the first, which alone would get a blank.
    return Tokenizer.from_str(
        plain.replace('"prepend_scheme": "first"', '"prepend_scheme": "never"')
    )
