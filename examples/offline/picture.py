"""Draw docs/images/run.svg: a real run of the demo's first query, as the terminal shows it.

python examples/offline/picture.py

Progress, texts and tables are those of the run and appear as they did; of the trajectory only the
pair and the gradient of the iterations that led to the answer are shown, and waits of more than two
seconds are shortened. Nothing is loaded from elsewhere.
"""

import re
import tomllib
from html import escape
from io import StringIO
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any

from rich.terminal_theme import MONOKAI
from rich.text import Text

from tpo_graph import optimize
from tpo_graph.cli import display

HERE = Path(__file__).parent
PICTURE = HERE.parent.parent / "docs" / "images" / "run.svg"
COLUMNS, LONGEST_WAIT, READING = 92, 2.0, 1.5
SAYS = {
    "samples": "scoring {n} responses",
    "rewards": "comparing best and worst",
    "loss": "writing instructions",
    "gradient": "writing better responses",
}
"""What the terminal says after each event, as `tpo run` does."""
STYLE = """
@keyframes appear { from { opacity: 0 } }
@keyframes while { from, to { opacity: 1 } }
.line { animation: appear .01s backwards }
.doing { opacity: 0; animation: while 1s }
@media (prefers-reduced-motion) { .line, .doing { animation: none } }
"""
TEMPLATE = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<style>
.{unique_id}-matrix {{ font: {char_height}px ui-monospace, Menlo, Consolas, monospace;
  line-height: {line_height}px }}
{styles}
</style>
<defs>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})">
{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""


def run() -> tuple[list[tuple[float, str]], list[tuple[float, str]]]:
    """(seconds, line) and (seconds, what is being done) of one run."""
    settings: Any = tomllib.loads((HERE / "tpo.toml").read_text(encoding="utf-8"))
    settings = {k: v for k, v in settings.items() if k not in ("check", "compare")}
    for name in ("model", "reward_model"):
        settings[name] = settings[name].replace("./", f"{HERE}/")
    settings["prompts"] = str(HERE / settings["prompts"])
    query = (HERE / "queries.txt").read_text(encoding="utf-8").splitlines()[0]
    optimize(query, **{**settings, "depth": 0, "width": 1})

    console = display.Console(
        record=True, width=COLUMNS, force_terminal=True, highlight=False, file=StringIO()
    )
    display.console = console
    progress = display.Progress(settings["depth"])
    command = f'$ tpo run --config examples/offline/tpo.toml --seed 7 --trajectory "{query}"'
    lines: list[tuple[float, str]] = [(0.0, f"[bold]{command}[/]")]
    doing = [(0.3, "sampling")]
    began, cut = monotonic() - 0.3, 0.0

    def show(event: Any) -> None:
        nonlocal cut
        now = monotonic() - began - cut
        cut += max(0.0, now - doing[-1][0] - LONGEST_WAIT)
        now = min(now, doing[-1][0] + LONGEST_WAIT)
        progress.show(event)
        if event["event"] in SAYS:
            doing.append((now, SAYS[event["event"]].format(**event)))
        for line in console.export_text(styles=True).splitlines():
            lines.append((now, line))

    result = optimize(query, seed=7, on_event=show, **settings)
    end = doing[-1][0] + 0.4
    doing.append((end, ""))
    for step in result.steps[: result.iteration]:
        console.print(Text(f"\nrejected  reward {step['rejected']['reward']:.2f}", style="bold"))
        console.print(Text(step["rejected"]["response"]))
        console.print(Text(f"chosen  reward {step['chosen']['reward']:.2f}", style="bold"))
        console.print(Text(step["chosen"]["response"]))
        console.print(Text("gradient", style="bold"))
        console.print(Text(step["gradient"]))
    lines += [(end, line) for line in console.export_text(styles=True).splitlines()]
    end += READING
    console.print(Text(f"\nanswer  reward {result.reward:.2f}", style="bold green"))
    console.print(Text(result.response, style="green"))
    display.print_iterations(result)
    lines += [(end, line) for line in console.export_text(styles=True).splitlines()]
    return lines, doing


def draw(lines: list[tuple[float, str]], doing: list[tuple[float, str]]) -> str:
    """The picture: every line appears at its time."""
    console = display.Console(record=True, width=COLUMNS, file=StringIO())
    times: list[float] = []
    for when, line in lines:
        text = Text.from_markup(line) if not times else Text.from_ansi(line)
        rows = text.wrap(console, COLUMNS)
        times += [when] * len(rows)
        console.print(text)
    svg = console.export_svg(
        title="tpo run", theme=MONOKAI, code_format=TEMPLATE, unique_id="t", font_aspect_ratio=0.61
    )
    svg = re.sub(
        r'<text (class="t-r\d+" [^>]*clip-path="url\(#t-line-(\d+)\)")',
        lambda m: (
            f'<text style="animation-delay:{times[int(m[2])]:.2f}s" '
            + m[1].replace('class="', 'class="line ')
        ),
        svg,
    )
    first, second = (
        float(re.findall(rf'<text [^>]*y="([\d.]+)"[^>]*line-{row}\)', svg)[0]) for row in (0, 1)
    )
    height = second - first
    said = "".join(
        f'<text class="doing" fill="#66d9ef" x="0" '
        f'y="{first + height * sum(t <= a for t in times):.1f}" '
        f'style="animation-delay:{a:.2f}s;animation-duration:{b - a:.2f}s">● {escape(what)}…</text>'
        for (a, what), (b, _) in pairwise(doing)
    )
    svg = svg.replace("</g></g>", f"{said}</g></g>").replace("</style>", f"{STYLE}</style>")
    return re.sub(r' clip-path="[^"]*"', "", re.sub(r"<defs>.*?</defs>", "", svg, flags=re.DOTALL))


if __name__ == "__main__":
    PICTURE.write_text(draw(*run()), encoding="utf-8")
    print(f"{PICTURE.name}: {PICTURE.stat().st_size / 1000:.0f} kB")
