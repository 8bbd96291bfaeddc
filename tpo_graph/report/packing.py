"""Texts that a page shows when they are asked for: in the page as they are, or compressed.

Many are packed as JSON in blocks, which `page.js` unpacks when one of them is opened.
"""

import json
import zlib
from base64 import b64encode
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tpo_graph.report.render import macros, plain

if TYPE_CHECKING:
    from markupsafe import Markup

INLINE = 1_500_000
"""Characters of markup up to which it stands in the page as it is."""
_BLOCK = 400_000
"""Characters of markup in a block; opening one piece unpacks one block."""


def packed(bodies: "Sequence[Markup | None]") -> "tuple[list[Markup | None], list[str]]":
    """What stands in the place of each body, and the blocks.

    Args:
        bodies: one element each; None for nothing.
    """
    if sum(len(body) for body in bodies if body is not None) <= INLINE:
        return list(bodies), []
    places: list[Markup | None] = list(bodies)
    blocks: list[str] = []
    for number, block in enumerate(_blocks(bodies)):
        for index, place in enumerate(block):
            places[place] = macros("report_runs.html").unpacked(f"texts-{number}", index)
        nodes = [plain((bodies[place] or "").strip())[0] for place in block]
        content = json.dumps(nodes, ensure_ascii=False, separators=(",", ":"))
        blocks.append(b64encode(zlib.compress(content.encode(), 9)).decode())
    return places, blocks


def _blocks(bodies: "Sequence[Markup | None]") -> Iterator[list[int]]:
    block: list[int] = []
    size = 0
    for place, body in enumerate(bodies):
        if body is None:
            continue
        if block and size + len(body) > _BLOCK:
            yield block
            block, size = [], 0
        block.append(place)
        size += len(body)
    yield block
