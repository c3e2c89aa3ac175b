"""smolagents: the OpenAI model, and a tool-calling agent with it."""

import json
from typing import Any

import zoo
from smolagents import ChatMessage, OpenAIModel, ToolCallingAgent, tool
from smolagents.monitoring import LogLevel

FORM = {
    "type": "json_schema",
    "json_schema": {
        "name": "forecast",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
            "required": ["city", "degrees"],
            "additionalProperties": False,
        },
    },
}


def chosen(model: str) -> OpenAIModel:
    return OpenAIModel(model, api_base=zoo.BASE_URL, api_key=zoo.KEY, client_kwargs={"max_retries": 0}, retry=False)


def question(text: str) -> list[ChatMessage]:
    return [ChatMessage(role="user", content=[{"type": "text", "text": text}])]


def text(model: str) -> Any:
    return {"text": chosen(model).generate(question(zoo.QUESTION)).content}


def stream(model: str) -> Any:
    pieces = [delta.content or "" for delta in chosen(model).generate_stream(question(zoo.QUESTION))]
    return {"text": "".join(pieces), "pieces": sum(map(bool, pieces))}


def converse(model: str, *, streaming: bool) -> Any:
    agent = ToolCallingAgent(
        tools=[tool(zoo.get_weather)],
        model=chosen(model),
        stream_outputs=streaming,
        max_steps=4,
        verbosity_level=LogLevel.OFF,
    )
    answers = [str(agent.run(asked, reset=not number)) for number, asked in enumerate(zoo.QUESTIONS)]
    return {"answers": answers, "calls": zoo.called()}


def tools(model: str) -> Any:
    return converse(model, streaming=False)


def tools_stream(model: str) -> Any:
    return converse(model, streaming=True)


def structured(model: str) -> Any:
    return {"value": json.loads(chosen(model).generate(question(zoo.FORM), response_format=FORM).content)}


zoo.serve(text=text, stream=stream, tools=tools, tools_stream=tools_stream, structured=structured)
