"""A run whose model server fails in the middle, resumed, and then extended."""

import tempfile
from pathlib import Path

from tpo_graph import extend, optimize, resume
from tpo_graph.testing import ScriptedChatModel, draft_then_improve, prefer_longer

database = f"sqlite:///{Path(tempfile.mkdtemp()) / 'tpo.db'}"
server_is_down = True


def reply(messages, index):
    if server_is_down and "</improved_answer>" in messages[-1].text:
        raise ConnectionError("the model server is down")
    return draft_then_improve(messages, index)


model = ScriptedChatModel(replies=reply)  # a fake, as is the reward: put real names in their place
handles = {"model": model, "reward_model": prefer_longer, "database": database}

# Failing after the first selection, it still answers with the best so far.
result = optimize("Say hello.", run_id="hello", depth=1, width=3, **handles)
print(f"failed: {result.response}, because {result.error}")

server_is_down, paid = False, len(model.calls)
result = resume("hello", **handles)
print(f"resumed: {result.response}, with {len(model.calls) - paid} call more than before")

result = extend("hello", depth=3, **handles)
print(f"deeper: {result.response}, written in iteration {result.iteration}")
