"""Chat models: one for a name (`load`), n samples of a prompt from it (`sampling`)."""

from tpo_graph.models.load import load_chat_model, model_name
from tpo_graph.models.replies import Unusable
from tpo_graph.models.sampling import Generated, generate

__all__ = ["Generated", "Unusable", "generate", "load_chat_model", "model_name"]
