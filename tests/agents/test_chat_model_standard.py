"""`ChatTPO` in LangChain's own test suites, on scripted and on local models."""

from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from tests.agents.fakes import ToolCallingModel
from tpo_graph import ChatTPO
from tpo_graph.testing import prefer_longer

beta = pytest.mark.filterwarnings(
    "ignore::langchain_core._api.beta_decorator.LangChainBetaWarning",
    "ignore:Pydantic V1:DeprecationWarning",
)


class Standard:
    """What is true of ChatTPO, whatever model it has inside."""

    chat_model_class = ChatTPO
    # another model for one call is another ChatTPO
    supports_model_override = False
    enable_vcr_tests = False

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": ToolCallingModel(), "reward_model": prefer_longer, "depth": 1, "width": 2}


@beta
class TestUnit(Standard, ChatModelUnitTests):
    """LangChain's unit suite."""


@beta
class TestIntegrationScripted(Standard, ChatModelIntegrationTests):
    """Capabilities are the inner model's: this one calls tools and reports usage."""

    @property
    def structured_output_kwargs(self) -> dict[str, Any]:
        # The suite counts calls of models: the best of one is one call.
        return {"method": "function_calling", "depth": 0, "width": 1}


@beta
class TestIntegrationLocal(Standard, ChatModelIntegrationTests):
    """A local model calls no tools."""

    has_tool_calling = False
    has_structured_output = False
    returns_usage_metadata = True

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            **super().chat_model_params,
            "model": local_model(),
            "max_tokens": 8,
            "settings": {"critic_max_tokens": 8},
        }


def local_model() -> BaseChatModel:
    from tests.tiny_models import causal_lm
    from tpo_graph.models.load import load_chat_model

    return load_chat_model(f"local:{causal_lm(max_positions=4096)}")
