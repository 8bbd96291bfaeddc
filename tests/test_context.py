"""Options of a run: bounds, and a graph's own defaults."""

from typing import Any

import pytest

from tpo_graph import TPOContext, create_tpo_graph
from tpo_graph.errors import ConfigurationError
from tpo_graph.testing import ScriptedChatModel, prefer_longer

QUERY: Any = {"messages": [("user", "Say hello.")]}


def run(context: Any, **defaults: Any) -> tuple[int, int]:
    """(width, depth) of a run of a graph with these defaults."""
    out = create_tpo_graph(ScriptedChatModel(), prefer_longer, defaults=defaults).invoke(
        QUERY, context=context
    )
    return out["history"][0]["n"], len(out["history"]) - 1


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (None, (3, 0)),
        ({"depth": 1}, (3, 1)),
        (TPOContext(depth=1), (3, 1)),
        ({"width": 2, "depth": 2}, (2, 2)),
    ],
)
def test_a_graphs_defaults_hold_for_what_a_caller_does_not_set(context: Any, expected: Any):
    assert run(context, width=3, depth=0) == expected


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"depth": "-1"}, "depth=-1 is not valid: it must be at least 0"),
        ({"depth": "x"}, "depth='x' is not valid: it must be a whole number"),
        ({"depth": 1.5}, "depth=1.5 is not valid: it must be a whole number"),
        ({"depth": "9" * 5000}, "it has too many digits"),
        ({"temperature": "hot"}, "temperature='hot' is not valid: it must be a number"),
        ({"temperature": 3}, "temperature=3 is not valid: it must be at most 2"),
        ({"top_p": 0}, "top_p=0 is not valid: it must be above 0"),
        ({"seed": 2**31}, "seed=2147483648 is not valid: it must be below 2147483648"),
        ({"target_reward": float("nan")}, "it must be a finite number"),
        ({"stop_on_same_pair": "maybe"}, "'maybe' is not valid: it must be true or false"),
        ({"criteria": 3}, "criteria=3 is not valid: it must be a text"),
        ({"criteria": "x" * 20_001}, "it must have at most 20000 characters"),
        ({"select": ""}, "select='' is not valid: it is too short"),
        ({"on_failure": "keep"}, "'keep' is not valid: it must be 'answer' or 'raise'"),
    ],
)
def test_a_wrong_value_is_told_in_words_that_fit_python_a_command_and_a_file(
    wrong: dict[str, Any], told: str
):
    with pytest.raises(ConfigurationError) as error:
        TPOContext(**wrong)
    assert told in str(error.value)


@pytest.mark.parametrize("wrong", [{"width": 0}, {"widht": 3}, {"temperature": 3.0}])
def test_wrong_defaults_are_refused_with_the_value(wrong: dict[str, Any]):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        create_tpo_graph(ScriptedChatModel(), prefer_longer, defaults=wrong)


def test_other_defaults_keep_bounds_descriptions_and_node_hints():
    theirs = TPOContext.with_defaults({"width": 3, "criteria": "brief"}).model_json_schema()
    ours = TPOContext.model_json_schema()
    ours["properties"]["width"]["default"] = 3
    ours["properties"]["criteria"]["default"] = "brief"
    assert theirs == ours


@pytest.mark.parametrize("name", TPOContext.model_fields)
def test_every_setting_can_have_another_default(name: str):
    value = getattr(TPOContext(), name)
    schema = TPOContext.with_defaults({name: value})
    assert getattr(schema(), name) == value
