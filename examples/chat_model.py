"""A chat model that answers with TPO, wherever LangChain takes one. Offline, with fakes.

python examples/chat_model.py
"""

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from tpo_graph import ChatTPO
from tpo_graph.testing import ScriptedChatModel, prefer_longer

chat = ChatTPO(
    model=ScriptedChatModel(),  # yours: "openai:gpt-4o-mini"
    reward_model=prefer_longer,  # yours: "local:Skywork/Skywork-Reward-V2-Qwen3-0.6B"
    depth=1,
    width=3,
)

answer = chat.invoke("Say hello.")
print(answer.text)
print(answer.usage_metadata)  # all inner calls, each counted once

prompt = ChatPromptTemplate.from_template("Say {what} in one line.")
chain = prompt | chat.bind(criteria="Prefer exclamation marks.") | StrOutputParser()
print(chain.batch([{"what": "hello"}, {"what": "goodbye"}]))
