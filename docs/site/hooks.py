"""What makes a site of the repository's own pages: they are put in as they lie, so links hold.

Pages, notebooks (as Markdown, with their stored outputs) and the files that pages link to come in
under their paths in the repository. that would need a script from another host are made here.
"""

import json
import re
from html import escape
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = (
    "*.md",
    "docs/*.md",
    "docs/images/*",
    "examples/offline/*.md",
    "examples/notebooks/*.ipynb",
)
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s:]+)(#[^)\s]*)?\)")
_MERMAID = re.compile(r"^```mermaid\n(.*?)^```", re.DOTALL | re.MULTILINE)
_LABEL = re.compile(r'(\w+)\["<b>\w+</b><br/>(.*?)"\]')
_QUOTE = re.compile(r"^>.*$", re.MULTILINE)
_STEPS = ("sample", "reward_score", "select", "loss", "gradient", "update")


def on_files(files: Files, config: Any) -> Files:
    """Add the repository's pages, and the files that they link to."""
    found = sorted({path for pattern in PAGES for path in ROOT.glob(pattern)})
    linked = {
        (page.parent / link[2]).resolve()
        for page in found
        if page.suffix == ".md"
        for link in _LINK.finditer(page.read_text(encoding="utf-8"))
    }
    for path in [*found, *sorted(linked - set(found))]:
        if path.is_file() and path.is_relative_to(ROOT):
            name = path.relative_to(ROOT).as_posix()
            if path.suffix == ".ipynb":
                name = name.removesuffix(".ipynb") + ".md"
                files.append(File.generated(config, name, content=_notebook(path)))
            else:
                files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Draw graphs, and take links to folders out: a site has no page for a folder."""
    here = (ROOT / page.file.src_uri).parent

    def without_folder(link: re.Match[str]) -> str:
        return link[1] if (here / link[2]).is_dir() else link[0].replace(".ipynb", ".md")

    # What models wrote stands in quotes: none of it is markup or a heading of the page.
    markdown = _QUOTE.sub(lambda line: line[0].replace("<", "&lt;").replace("#", "&#35;"), markdown)
    return _MERMAID.sub(lambda found: _drawn(found[1]), _LINK.sub(without_folder, markdown))


def _notebook(path: Path) -> str:
    parts: list[str] = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        parts += [_output(output) for output in cell.get("outputs", [])]
    return "\n\n".join(parts)


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        png = "".join(data["image/png"]).replace("\n", "")
        return f'<img alt="The chart that this cell draws" src="data:image/png;base64,{png}">'
    if "text/html" in data:
        # Python-Markdown ends raw HTML at an empty line.
        html = re.sub(r"\n\s*(?=\n)", "", "".join(data["text/html"]))
        return f'<div class="output">{html}</div>'
    text = "".join(output.get("text") or data["text/plain"]).rstrip()
    return f"```text\n{text}\n```"


def _drawn(graph: str) -> str:
    """The graph of the six steps as an inline SVG, with the labels of the Mermaid text."""
    labels = {step: text.replace("<br/>", " ") for step, text in _LABEL.findall(graph)}
    wide, high, gap = 330 if labels else 150, 44 if labels else 30, 26
    middle, top = wide / 2 + 40, 44
    tops = {step: top + place * (high + gap) for place, step in enumerate(_STEPS)}
    bottom = tops["update"] + high
    drawn = [_box("start", middle, 2, 70, 22), _box("end", middle + wide / 2 + 70, tops["select"])]
    drawn += [_box(step, middle, y, wide, high, labels.get(step, "")) for step, y in tops.items()]
    starts = [24, *(y + high for y in list(tops.values())[:-1])]
    drawn += [
        f'<path d="M{middle} {start}V{end - 5}" marker-end="url(#tip)"/>'
        for start, end in zip(starts, tops.values(), strict=True)
    ]
    left, right = middle - wide / 2, middle + wide / 2
    into, out = tops["reward_score"] + high / 2, tops["update"] + high / 2
    drawn.append(f'<path d="M{left} {out}H14V{into}H{left - 5}" marker-end="url(#tip)"/>')
    stop = tops["select"] + 15
    drawn.append(
        f'<path d="M{right} {stop}H{right + 29}" stroke-dasharray="4 3" marker-end="url(#tip)"/>'
    )
    alt = "sample, reward_score, select; then end, or loss, gradient, update, reward_score again"
    return (
        f'<svg class="graph" role="img" aria-label="{alt}" width="{right + 112}" '
        f'viewBox="0 0 {right + 112} {bottom + 4}"><defs>'
        '<marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" '
        'markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>'
        f"{''.join(drawn)}</svg>"
    )


def _box(
    name: str, middle: float, top: float, wide: float = 70, high: float = 30, label: str = ""
) -> str:
    lines = [f'<tspan class="name">{name}</tspan>']
    if label:
        lines.append(f'<tspan x="{middle}" dy="17">{escape(label, quote=False)}</tspan>')
    baseline = top + (18 if label else high / 2 + 5)
    return (
        f'<rect x="{middle - wide / 2}" y="{top}" width="{wide}" height="{high}" rx="6"/>'
        f'<text x="{middle}" y="{baseline}">{"".join(lines)}</text>'
    )
