"""autogen: its OpenAI client, and an assistant agent with it."""

from typing import Any

import zoo
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.messages import ModelClientStreamingChunkEvent
from autogen_core.models import UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient
from pydantic import BaseModel

ABILITIES = {
    "vision": False,
    "function_calling": True,
    "json_output": True,
    "structured_output": True,
    "family": "unknown",
}


class Forecast(BaseModel):
    """A forecast."""

    city: str
    degrees: int


def client(model: str) -> OpenAIChatCompletionClient:
    return OpenAIChatCompletionClient(
        model=model,
        base_url=zoo.BASE_URL,
        api_key=zoo.KEY,
        model_info=ABILITIES,
        max_retries=0,
        include_name_in_message=False,
    )


async def text(model: str) -> Any:
    answer = await client(model).create([UserMessage(content=zoo.QUESTION, source="user")])
    return {"text": answer.content}


async def stream(model: str) -> Any:
    parts = [part async for part in client(model).create_stream([UserMessage(content=zoo.QUESTION, source="user")])]
    pieces = [part for part in parts if isinstance(part, str)]
    thoughts, _, text = "".join(pieces).rpartition("</think>")
    assert parts[-1].content == text, parts[-1]
    return {"text": text, "pieces": len(pieces), "thoughts": thoughts.removeprefix("<think>")}


async def converse(model: str, *, streaming: bool) -> Any:
    agent = AssistantAgent(
        "zoo",
        client(model),
        tools=[zoo.get_weather],
        reflect_on_tool_use=True,
        model_client_stream=streaming,
        system_message="Be brief.",
    )
    answers = []
    for question in zoo.QUESTIONS:
        async for message in agent.run_stream(task=question):
            last = message
        assert not isinstance(last, ModelClientStreamingChunkEvent)
        answers.append(last.messages[-1].content)
    return {"answers": answers, "calls": zoo.called()}


async def tools(model: str) -> Any:
    return await converse(model, streaming=False)


async def tools_stream(model: str) -> Any:
    return await converse(model, streaming=True)


async def structured(model: str) -> Any:
    answer = await client(model).create([UserMessage(content=zoo.FORM, source="user")], json_output=Forecast)
    return {"value": Forecast.model_validate_json(answer.content).model_dump()}


zoo.serve(text=text, stream=stream, tools=tools, tools_stream=tools_stream, structured=structured)
