"""A database that an earlier version wrote opens, migrates, and its runs resume and extend."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from tpo_graph import extend, resume
from tpo_graph.conversation import Turn
from tpo_graph.testing import ScriptedChatModel

OLD = Path(__file__).parent / "data" / "revision_0002.sql"


class Length:
    """The fake reward model that its runs were scored by."""

    name = "length"

    async def score(self, conversation: list[Turn], responses: Sequence[str]) -> list[float]:
        return [float(len(response)) for response in responses]


def test_runs_of_an_earlier_version_resume_and_extend(tmp_path: Path) -> None:
    file = tmp_path / "old.db"
    with sqlite3.connect(file) as database:
        database.executescript(OLD.read_text(encoding="utf-8"))
        before = database.execute("SELECT response FROM tpo_candidates").fetchall()
    database.close()
    url = f"sqlite:///{file}"

    policy = ScriptedChatModel()
    resumed = resume("stopped", model=policy, reward_model=Length(), database=url)
    assert resumed.stop_reason == "depth"
    assert resumed.iteration == 1
    assert policy.calls == []  # what was written before the failure is only scored

    extended = extend("finished", depth=2, model=policy, reward_model=Length(), database=url)
    assert {c["iteration"] for c in extended.candidates} == {0, 1, 2}
    assert len(policy.calls) == 3

    with sqlite3.connect(file) as database:
        after = database.execute("SELECT response FROM tpo_candidates").fetchall()
    database.close()
    assert set(before) < set(after)
