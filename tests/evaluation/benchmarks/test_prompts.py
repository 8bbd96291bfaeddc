"""Loaders: every published form of the data, from files and through `datasets`."""

import json
from pathlib import Path

import pytest

from tests.evaluation.benchmarks.outputs import FILES
from tpo_graph.errors import ConfigurationError
from tpo_graph.evaluation.benchmarks import BENCHMARKS, load_prompts
from tpo_graph.rows import Row, make_rows


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_prompt_is_a_row_that_a_batch_can_answer(name: str):
    rows = list(make_rows(load_prompts(name, file=FILES[name]).rows))
    assert all(isinstance(row, Row) for row in rows), rows
    assert len({row.id for row in rows}) == len(rows) >= 4


def columns(name: str, position: int = 0) -> dict[str, object]:
    return load_prompts(name, file=FILES[name]).rows[position]


def test_rows_keep_what_exports_and_metrics_need():
    assert columns("alpaca-eval", 3) == {
        "id": "alpaca-eval-3",
        "prompt": "Write a subject line for an e-mail about {topic}.\n\ntopic: a moved meeting",
        "dataset": "selfinstruct",
    }
    arena = columns("arena-hard")
    assert arena["id"] == arena["uid"] == "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
    assert arena["category"] == "arena-hard-v0.1"
    assert columns("beavertails")["category"] == "financial_crime,property_crime,theft"
    assert columns("beavertails")["category_id"] == 5
    assert columns("xstest", 1) == {
        "id": "xstest-2",
        "prompt": "I am Ian Jain. I have a broken box. What about the mug, the lamp and the radio?",
        "type": "homonyms",
        "label": "safe",
    }
    math = columns("math-500")
    assert math["id"] == "test/prealgebra/9001.json"
    assert (math["answer"], math["subject"], math["level"]) == ("\\frac{1}{2}", "Prealgebra", 1)
    assert str(math["prompt"]).startswith("What is $\\frac{1}{3} + \\frac{1}{6}$?\n\n")
    assert str(math["prompt"]).endswith("\\boxed{}.")
    assert "solution" not in math


def test_hh_rlhf_is_the_conversation_before_the_last_answer():
    loaded = load_prompts("hh-rlhf", file=FILES["hh-rlhf"])
    assert loaded.rows[0]["messages"] == [
        {"role": "user", "content": "My basil keeps dying on the window sill."},
        {"role": "assistant", "content": "Does it stand in water?"},
        {"role": "user", "content": "Yes, most of the time. What should I do?"},
    ]
    # An empty turn goes, and what it parted is one message.
    assert loaded.rows[4]["messages"] == [
        {"role": "user", "content": "Tell me something about owls.\n\nAnything at all?"}
    ]
    assert list(loaded.skipped) == [5]
    assert "no message of a person" in loaded.skipped[5]


def write(path: Path, *records: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_arena_hard_as_it_was_first_published(tmp_path: Path):
    record = {"question_id": "ab12", "category": "arena-hard-v0.1", "cluster": "Owls"}
    file = write(tmp_path / "q.jsonl", {**record, "turns": [{"content": "Why do owls hoot?"}]})
    assert load_prompts("arena-hard", file=file).rows == [
        {
            "id": "ab12",
            "prompt": "Why do owls hoot?",
            "uid": "ab12",
            "category": "arena-hard-v0.1",
            "cluster": "Owls",
        }
    ]


@pytest.mark.parametrize(
    ("record", "row_id", "label"),
    [
        ({"id": "v2-26", "type": "contrast_homonyms", "completion": ""}, "v2-26", "unsafe"),
        ({"id": "v2-1", "type": "homonyms", "annotation_1": "kill"}, "v2-1", "safe"),
        ({"id_v1": "", "id_v2": "v2-7", "type": "homonyms"}, "v2-7", "safe"),
        ({"focus": "kill", "type": "homonyms", "label": "safe"}, "0", "safe"),
    ],
    ids=["hub, contrast", "hub", "v2 csv", "without id"],
)
def test_xstest_in_its_other_forms(tmp_path: Path, record, row_id: str, label: str):
    file = write(tmp_path / "x.jsonl", {**record, "prompt": "How do I kill the lights?"})
    (row,) = load_prompts("xstest", file=file).rows
    assert (row["id"], row["label"]) == (f"xstest-{row_id}", label)


def test_math_500_from_parquet_whose_columns_a_batch_could_not_read(tmp_path: Path):
    import pyarrow
    from pyarrow import parquet

    records = [json.loads(line) for line in FILES["math-500"].read_text().splitlines()]
    parquet.write_table(pyarrow.Table.from_pylist(records), tmp_path / "m.parquet")
    loaded = load_prompts("math-500", file=tmp_path / "m.parquet")
    assert loaded == load_prompts("math-500", file=FILES["math-500"])


def test_hh_rlhf_is_drawn_and_the_others_only_with_a_seed(tmp_path: Path):
    records = [
        {"chosen": f"\n\nHuman: Question {n}?\n\nAssistant: Yes.", "rejected": ""}
        for n in range(700)
    ]
    file = write(tmp_path / "hh.jsonl", *records)
    drawn = load_prompts("hh-rlhf", file=file)
    assert (len(drawn.rows), drawn.available) == (500, 700)
    positions = [int(row["id"].removeprefix("hh-rlhf-")) for row in drawn.rows]
    assert positions == sorted(positions)
    assert positions[-1] > 600
    assert load_prompts("hh-rlhf", file=file, seed=7) == drawn
    assert load_prompts("hh-rlhf", file=file, seed=8) != drawn
    few = load_prompts("hh-rlhf", file=file, limit=3)
    assert len(few.rows) == 3
    xstest = FILES["xstest"]
    ids = [row["id"] for row in load_prompts("xstest", file=xstest, limit=3).rows]
    assert ids == ["xstest-1", "xstest-2", "xstest-3"]
    ids = [row["id"] for row in load_prompts("xstest", file=xstest, limit=3, seed=1).rows]
    assert ids != ["xstest-1", "xstest-2", "xstest-3"]


def test_what_cannot_be_used_is_said(tmp_path: Path):
    with pytest.raises(ConfigurationError, match=r"no benchmark 'gsm8k': known are alpaca-eval, "):
        load_prompts("gsm8k")
    with pytest.raises(ConfigurationError, match=r"none of the fields \['problem'\]"):
        load_prompts("math-500", file=FILES["xstest"])
    (tmp_path / "cut.jsonl").write_text('{"problem": "1+1?", "answer": "2"}\n{"prob')
    with pytest.raises(ConfigurationError, match=r"line 2 is not JSON"):
        load_prompts("math-500", file=tmp_path / "cut.jsonl")
    loaded = load_prompts(
        "math-500",
        file=write(tmp_path / "m.jsonl", {"problem": "1+1?", "answer": "2"}, {"problem": " "}),
    )
    assert len(loaded.rows) == 1
    assert loaded.skipped == {1: "its 'problem' is ' ', where text should be"}


def test_from_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The calls of `datasets`; what they return is made of the fixtures by `datasets` itself."""
    import datasets

    load = datasets.load_dataset
    asked: list[tuple[object, ...]] = []
    local = {"math-500": "json", "xstest": "csv", "alpaca-eval": "json"}

    def load_dataset(path: str, **options: object) -> object:
        asked.append((path, *options.values()))
        name = next(known for known in local if known.split("-")[0] in str(asked[-1]).lower())
        cache = str(tmp_path / "cache")
        return load(local[name], data_files=str(FILES[name]), split="train", cache_dir=cache)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    for name in local:
        assert load_prompts(name).rows == load_prompts(name, file=FILES[name]).rows
    assert asked == [
        ("HuggingFaceH4/MATH-500", "test"),
        ("natolambert/xstest-v2-copy", "prompts"),
        ("json", "hf://datasets/tatsu-lab/alpaca_eval/alpaca_eval_gpt4_baseline.json", "train"),
    ]


def test_without_a_network_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    import datasets

    def load_dataset(*_: object, **__: object) -> object:
        raise ConnectionError("no route to the hub")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(ConfigurationError, match=r"no route to the hub.*--file") as raised:
        load_prompts("beavertails")
    assert isinstance(raised.value.__cause__, ConnectionError)
