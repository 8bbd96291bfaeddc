"""What a report of many runs weighs, and how long a browser takes to open it.

Runs come from a scripted model through the public API: D2-N5, answers of about 1.7 KB whose
rewrites change some sentences, critiques of about 1 KB. Chromium opens the file from disk.

    python -m benchmarks.report_size [--runs 1000] [--keep report.html]
"""

import argparse
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from langchain_core.messages import BaseMessage

from tests.report.chromium import browser, no_chromium
from tpo_graph import optimize_many
from tpo_graph.report import write_report
from tpo_graph.testing import ScriptedChatModel

ANSWER, CRITIQUE = 1700, 1000
"""Characters."""


class Writer:
    """Plays policy and critic with made-up prose; a rewrite keeps most of the chosen answer."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        syllables = [a + b for a in "bcdfglmnprstv" for b in ("a", "e", "i", "o", "u", "an", "er")]
        self._words = [
            "".join(self._random.choices(syllables, k=self._random.choice((1, 2, 2, 3))))
            for _ in range(6000)
        ]
        # As in natural text, the n-th most common word has a share of about 1/n.
        self._shares = [1 / (n + 2) for n in range(len(self._words))]

    def __call__(self, messages: Sequence[BaseMessage], index: int) -> str:
        asked = "\n".join(message.text for message in messages)
        if "</improved_answer>" in messages[-1].text:
            chosen = asked.split("<chosen_answer>\n")[-1].split("\n</chosen_answer>")[0]
            kept = [s if self._random.random() < 0.7 else self.sentence() for s in _split(chosen)]
            return f"<improved_answer>{' '.join(kept)}</improved_answer>"
        return self.text(CRITIQUE if "<chosen_answer>" in asked else ANSWER)

    def sentence(self) -> str:
        """Some words and a full stop."""
        words = self._random.choices(self._words, self._shares, k=self._random.randint(6, 22))
        return " ".join(words).capitalize() + "."

    def text(self, characters: int) -> str:
        """Sentences of at least so many characters together."""
        sentences: list[str] = []
        while sum(map(len, sentences)) < characters:
            sentences.append(self.sentence())
        return " ".join(sentences)


def _split(text: str) -> list[str]:
    return [part + "." for part in text.rstrip(".").split(". ")]


def some_reward(query: str, response: str) -> float:
    """Fixed for a text, rises a little with its length, and means nothing."""
    return round(random.Random(response).gauss(0, 1) + len(response) / 600, 4)


def fill(database: str, runs: int) -> None:
    """Store so many finished runs."""
    writer = Writer()
    queries = [f"Question {n + 1}: {writer.sentence()}" for n in range(runs)]
    model = ScriptedChatModel(replies=writer)
    for outcome in optimize_many(
        queries, model=model, reward_model=some_reward, database=database, max_in_flight=8
    ):
        if isinstance(outcome, Exception):
            raise outcome


def opening(file: Path, attempts: int = 3) -> Iterator[tuple[float, float]]:
    """Seconds until the whole list of queries stands, and from a click to a trajectory.

    Each attempt is a browser's first sight of the file.
    """
    for _ in range(attempts):
        with browser() as chromium:
            page = chromium.new_page()
            last = page.locator("summary.run").last
            begin = time.perf_counter()
            page.goto(file.as_uri())
            last.wait_for()
            opened = time.perf_counter()
            last.click()
            page.locator("details[open] .trajectory").wait_for()
            yield opened - begin, time.perf_counter() - opened


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--keep", type=Path, help="keep the report under this name")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="tpo-bench-") as folder:
        database = f"sqlite:///{Path(folder) / 'runs.db'}"
        file = options.keep or Path(folder) / "report.html"
        begin = time.perf_counter()
        fill(database, options.runs)
        stored = time.perf_counter()
        write_report([], file, database=database, limit=options.runs)
        written = time.perf_counter()
        print(
            f"{options.runs} runs stored in {stored - begin:.1f} s; report of "
            f"{file.stat().st_size / 1e6:.1f} MB written in {written - stored:.1f} s"
        )
        if reason := no_chromium():
            print(f"not opened: {reason}")
            return
        for opened, shown in opening(file):
            print(f"opens in {opened:.2f} s, then shows a trajectory in {shown:.2f} s")


if __name__ == "__main__":
    main()
