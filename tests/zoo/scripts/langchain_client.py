"""LangChain's ChatOpenAI: chat, Responses with and without summaries of thoughts, and by `previous_response_id`."""

import sys
from typing import Any

import zoo
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

RESPONSES = {"use_responses_api": True, "output_version": "responses/v1"}
OPTIONS: dict[str, dict[str, Any]] = {
    "chat": {"use_responses_api": False},
    "responses": {**RESPONSES, "reasoning": {"summary": "auto"}},
    "plain": RESPONSES,
    "previous": {**RESPONSES, "reasoning": {"summary": "auto"}, "use_previous_response_id": True},
}
MODE = sys.argv[1]


class Forecast(BaseModel):
    """A forecast."""

    city: str
    degrees: int


get_weather = tool(zoo.get_weather)


def chat(model: str) -> ChatOpenAI:
    return ChatOpenAI(model=model, base_url=zoo.BASE_URL, api_key=zoo.KEY, max_retries=0, timeout=20, **OPTIONS[MODE])


def said(message: BaseMessage) -> str:
    return message.text if isinstance(message.text, str) else message.text()


def text(model: str) -> Any:
    answer = chat(model).invoke(zoo.QUESTION)
    return {"text": said(answer), "usage": answer.usage_metadata}


def stream(model: str) -> Any:
    pieces, thoughts = [], []
    for chunk in chat(model).stream(zoo.QUESTION):
        pieces.append(said(chunk))
        thoughts += [block.get("reasoning", "") for block in chunk.content_blocks if block["type"] == "reasoning"]
    return {"text": "".join(pieces), "pieces": sum(map(bool, pieces)), "thoughts": "".join(thoughts)}


def tools(model: str) -> Any:
    return converse(model, lambda bound, messages: bound.invoke(messages))


def tools_stream(model: str) -> Any:
    return converse(model, streamed)


def streamed(bound: Any, messages: list[BaseMessage]) -> AIMessage:
    whole = None
    for chunk in bound.stream(messages):
        whole = chunk if whole is None else whole + chunk
    return whole


def converse(model: str, ask: Any) -> Any:
    bound = chat(model).bind_tools([get_weather])
    messages: list[BaseMessage] = []
    answers = []
    for question in zoo.QUESTIONS:
        messages.append(HumanMessage(question))
        while True:
            answer = ask(bound, messages)
            messages.append(answer)
            if not answer.tool_calls:
                break
            messages += [get_weather.invoke(call) for call in answer.tool_calls]
        answers.append(said(answer))
    return {"answers": answers, "calls": zoo.called()}


def structured(model: str) -> Any:
    value = chat(model).with_structured_output(Forecast, method="json_schema").invoke(zoo.FORM)
    return {"value": value.model_dump()}


zoo.serve(text=text, stream=stream, tools=tools, tools_stream=tools_stream, structured=structured)
