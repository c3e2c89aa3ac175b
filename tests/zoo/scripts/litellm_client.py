"""litellm's SDK: chat completions and Responses of an OpenAI-compatible server."""

import json
import sys
from typing import Any

import litellm
import zoo
from pydantic import BaseModel

MODE = sys.argv[1]
SERVER = {"api_base": zoo.BASE_URL, "api_key": zoo.KEY, "num_retries": 0, "timeout": 20}
litellm.suppress_debug_info = True


class Forecast(BaseModel):
    """A forecast."""

    city: str
    degrees: int


def ask(model: str, content: Any, **options: Any) -> Any:
    if MODE == "chat":
        return litellm.completion(f"openai/{model}", messages=content, **SERVER, **options)
    return litellm.responses(model=f"openai/{model}", input=content, **SERVER, **options)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(answer: Any) -> str:
    return answer.choices[0].message.content if MODE == "chat" else answer.output_text


def text(model: str) -> Any:
    return {"text": said(ask(model, [user(zoo.QUESTION)]))}


def stream(model: str) -> Any:
    pieces = []
    for event in ask(model, [user(zoo.QUESTION)], stream=True):
        if MODE == "chat":
            pieces.append(event.choices[0].delta.content or "")
        elif event.type == "response.output_text.delta":
            pieces.append(event.delta)
    return {"text": "".join(pieces), "pieces": sum(map(bool, pieces))}


def whole(model: str, messages: list[Any], **options: Any) -> Any:
    return ask(model, messages, **options)


def streamed(model: str, messages: list[Any], **options: Any) -> Any:
    events = list(ask(model, messages, stream=True, **options))
    if MODE == "chat":
        return litellm.stream_chunk_builder(events, messages=messages)
    return next(event.response for event in events if event.type == "response.completed")


def calls_in(answer: Any) -> list[tuple[str, str]]:
    if MODE == "chat":
        return [(call.id, call.function.arguments) for call in answer.choices[0].message.tool_calls or ()]
    return [(item.call_id, item.arguments) for item in answer.output if item.type == "function_call"]


def result_of(call_id: str, arguments: str) -> dict[str, Any]:
    result = zoo.get_weather(**json.loads(arguments))
    if MODE == "chat":
        return {"role": "tool", "tool_call_id": call_id, "content": result}
    return {"type": "function_call_output", "call_id": call_id, "output": result}


def converse(model: str, run: Any) -> Any:
    tool = {"type": "function", "function": zoo.TOOL} if MODE == "chat" else {"type": "function", **zoo.TOOL}
    messages: list[Any] = []
    answers = []
    for question in zoo.QUESTIONS:
        messages.append(user(question))
        while True:
            answer = run(model, messages, tools=[tool])
            if MODE == "chat":
                messages.append(answer.choices[0].message)
            else:
                messages += [item if isinstance(item, dict) else item.model_dump() for item in answer.output]
            calls = calls_in(answer)
            messages += [result_of(*call) for call in calls]
            if not calls:
                break
        answers.append(said(answer))
    return {"answers": answers, "calls": zoo.called()}


def tools(model: str) -> Any:
    return converse(model, whole)


def tools_stream(model: str) -> Any:
    return converse(model, streamed)


def structured(model: str) -> Any:
    form = {"response_format": Forecast} if MODE == "chat" else {"text_format": Forecast}
    return {"value": Forecast.model_validate_json(said(ask(model, [user(zoo.FORM)], **form))).model_dump()}


zoo.serve(text=text, stream=stream, tools=tools, tools_stream=tools_stream, structured=structured)
