"""An agent whose final answers TPO improves before anybody sees them. Offline, with fakes.

python examples/agent_middleware.py
"""

from langchain.agents import create_agent

from tpo_graph import TPOMiddleware
from tpo_graph.testing import ScriptedChatModel, prefer_longer

agent = create_agent(
    ScriptedChatModel(),  # yours: "openai:gpt-4o-mini"
    tools=[],
    middleware=[
        TPOMiddleware(
            prefer_longer,  # yours: "local:Skywork/Skywork-Reward-V2-Qwen3-0.6B"
            depth=2,
            width=3,
            when=lambda request, draft: len(draft.text) > 5,
        )
    ],
)

question = {"messages": [("user", "Say hello.")]}
for message, _ in agent.stream(question, stream_mode="messages"):
    about = message.response_metadata["tpo"]
    print(f"the client sees: {message.text}")
    print(f"reward {about['reward']}, written in iteration {about['iteration']}")

plain = agent.invoke({**question, "tpo": {"skip": True}})
print(f"this once without TPO: {plain['messages'][-1].text}")
