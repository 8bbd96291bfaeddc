"""A report of rows that this version would not have written."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import create_engine, text

from tpo_graph import optimize
from tpo_graph.cli import tpo
from tpo_graph.testing import ScriptedChatModel, prefer_longer


@pytest.mark.parametrize("settings", ['{"width": "many", "input_price": [1]}', "[]"])
def test_a_run_whose_settings_are_odd_is_shown(
    settings: str, sqlite_url: str, tmp_path: Path
) -> None:
    model = ScriptedChatModel(replies=["a longer one", "short"])
    given: dict[str, Any] = {"model": model, "reward_model": prefer_longer, "depth": 0, "width": 2}
    optimize("Why?", database=sqlite_url, **given)
    engine = create_engine(sqlite_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE tpo_runs SET settings = :s"), {"s": settings})
    engine.dispose()
    page = tmp_path / "page.html"
    done = CliRunner().invoke(tpo, ["report", "--database", sqlite_url, "-o", str(page)])
    assert done.exit_code == 0, done.output
    assert "a longer one" in page.read_text(encoding="utf-8")
