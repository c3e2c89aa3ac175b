"""pydantic-ai: the chat model, the Responses model, and Responses by `previous_response_id`."""

import sys
from typing import Any

import zoo
from pydantic import BaseModel
from pydantic_ai import (
    Agent,
    NativeOutput,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
)
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel, OpenAIResponsesModelSettings
from pydantic_ai.providers.openai import OpenAIProvider

MODE = sys.argv[1]


class Forecast(BaseModel):
    """A forecast."""

    city: str
    degrees: int


def agent(model: str, **options: Any) -> Agent:
    provider = OpenAIProvider(base_url=zoo.BASE_URL, api_key=zoo.KEY)
    if MODE == "chat":
        return Agent(OpenAIChatModel(model, provider=provider), **options)
    settings = OpenAIResponsesModelSettings(openai_reasoning_summary="auto")
    if MODE == "previous":
        settings["openai_previous_response_id"] = "auto"
    return Agent(OpenAIResponsesModel(model, provider=provider, settings=settings), **options)


async def text(model: str) -> Any:
    return {"text": (await agent(model).run(zoo.QUESTION)).output}


async def stream(model: str) -> Any:
    pieces, thoughts = [], []
    async with agent(model).iter(zoo.QUESTION) as run:
        async for node in run:
            if Agent.is_model_request_node(node):
                async with node.stream(run.ctx) as events:
                    async for event in events:
                        note(event, pieces, thoughts)
    return {"text": "".join(pieces), "pieces": sum(map(bool, pieces)), "thoughts": "".join(thoughts)}


def note(event: Any, pieces: list[str], thoughts: list[str]) -> None:
    match event:
        case PartStartEvent(part=TextPart(content=words)) | PartDeltaEvent(delta=TextPartDelta(content_delta=words)):
            pieces.append(words)
        case PartStartEvent(part=ThinkingPart(content=words)):
            thoughts.append(words)
        case PartDeltaEvent(delta=ThinkingPartDelta(content_delta=words)):
            thoughts.append(words or "")


async def tools(model: str) -> Any:
    asked = agent(model, tools=[zoo.get_weather])
    history, answers = [], []
    for question in zoo.QUESTIONS:
        result = await asked.run(question, message_history=history)
        answers.append(result.output)
        history = result.all_messages()
    return {"answers": answers, "calls": zoo.called()}


async def tools_stream(model: str) -> Any:
    asked = agent(model, tools=[zoo.get_weather])
    history, answers = [], []
    for question in zoo.QUESTIONS:
        async with asked.run_stream(question, message_history=history) as result:
            answers.append(await result.get_output())
            history = result.all_messages()
    return {"answers": answers, "calls": zoo.called()}


async def structured(model: str) -> Any:
    by_tool = (await agent(model, output_type=Forecast).run(zoo.FORM)).output
    by_schema = (await agent(model, output_type=NativeOutput(Forecast)).run(zoo.FORM)).output
    assert by_tool == by_schema, (by_tool, by_schema)
    return {"value": by_schema.model_dump()}


zoo.serve(text=text, stream=stream, tools=tools, tools_stream=tools_stream, structured=structured)
