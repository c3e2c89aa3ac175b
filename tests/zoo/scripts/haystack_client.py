"""Haystack: the OpenAI chat generator and the Responses generator, each with an agent."""

import json
import sys
from typing import Any

import zoo
from haystack.components.agents import Agent
from haystack.components.generators.chat import OpenAIChatGenerator, OpenAIResponsesChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import Tool
from haystack.utils import Secret
from pydantic import BaseModel

GENERATORS = {"chat": OpenAIChatGenerator, "responses": OpenAIResponsesChatGenerator}
MODE = sys.argv[1]
WEATHER = Tool(
    name=zoo.TOOL["name"],
    description=zoo.TOOL["description"],
    parameters=zoo.TOOL["parameters"],
    function=zoo.get_weather,
)


class Forecast(BaseModel):
    """A forecast."""

    city: str
    degrees: int


def generator(model: str, **options: Any) -> Any:
    key = Secret.from_token(zoo.KEY)
    return GENERATORS[MODE](model=model, api_base_url=zoo.BASE_URL, api_key=key, max_retries=0, **options)


def ask(asked: Any, text: str) -> ChatMessage:
    return asked.run([ChatMessage.from_user(text)])["replies"][0]


def text(model: str) -> Any:
    return {"text": ask(generator(model), zoo.QUESTION).text}


def stream(model: str) -> Any:
    pieces, thoughts = [], []

    def note(chunk: Any) -> None:
        pieces.append(chunk.content or "")
        if getattr(chunk, "reasoning", None) is not None:
            thoughts.append(chunk.reasoning.reasoning_text or "")

    answer = ask(generator(model, streaming_callback=note), zoo.QUESTION)
    assert answer.text == "".join(pieces), answer.text
    return {"text": "".join(pieces), "pieces": sum(map(bool, pieces)), "thoughts": "".join(thoughts)}


def converse(model: str, **options: Any) -> Any:
    agent = Agent(chat_generator=generator(model, **options), tools=[WEATHER])
    messages, answers = [], []
    for question in zoo.QUESTIONS:
        messages = agent.run([*messages, ChatMessage.from_user(question)])["messages"]
        answers.append(messages[-1].text)
    return {"answers": answers, "calls": zoo.called()}


def tools(model: str) -> Any:
    return converse(model)


def tools_stream(model: str) -> Any:
    return converse(model, streaming_callback=lambda chunk: None)


def structured(model: str) -> Any:
    form = "response_format" if MODE == "chat" else "text_format"
    answer = ask(generator(model, generation_kwargs={form: Forecast}), zoo.FORM)
    return {"value": json.loads(answer.text)}


zoo.serve(text=text, stream=stream, tools=tools, tools_stream=tools_stream, structured=structured)
