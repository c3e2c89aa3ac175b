"""LlamaIndex: OpenAI, OpenAILike for chat and for legacy completions, and OpenAILikeResponses."""

import sys
from typing import Any

import zoo
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.workflow import Context
from llama_index.llms.openai import OpenAI
from llama_index.llms.openai_like import OpenAILike, OpenAILikeResponses
from pydantic import BaseModel

MODE = sys.argv[1]
SERVER = {"api_base": zoo.BASE_URL, "api_key": zoo.KEY, "max_retries": 0, "timeout": 20}
ALIASES = {
    "openai": "gpt-4o",
    "deepseek": "gpt-4o-mini",
    "gemini": "gpt-4.1",
    "mistral": "gpt-4.1-mini",
    "loose-unnumbered": "gpt-4.1-nano",
    "loose-late-name": "gpt-4-turbo",
    "loose-whole": "gpt-4",
    "gemini-plain": "gpt-3.5-turbo",
    "openai-unverified": "gpt-4o-2024-08-06",
}


class Forecast(BaseModel):
    """A forecast."""

    city: str
    degrees: int


def chosen(model: str) -> Any:
    match MODE:
        case "openai":
            return OpenAI(ALIASES[model], **SERVER)
        case "like":
            return OpenAILike(model, **SERVER, is_chat_model=True, is_function_calling_model=True)
        case "completions":
            return OpenAILike(model, **SERVER)
        case _:
            return OpenAILikeResponses(model=model, **SERVER, is_function_calling_model=True)


def question(text: str) -> list[ChatMessage]:
    return [ChatMessage(role="user", content=text)]


def text(model: str) -> Any:
    if MODE == "completions":
        return {"text": chosen(model).complete(zoo.QUESTION).text}
    return {"text": chosen(model).chat(question(zoo.QUESTION)).message.content}


def stream(model: str) -> Any:
    if MODE == "completions":
        pieces = [chunk.delta or "" for chunk in chosen(model).stream_complete(zoo.QUESTION)]
    else:
        pieces = [chunk.delta or "" for chunk in chosen(model).stream_chat(question(zoo.QUESTION))]
    return {"text": "".join(pieces), "pieces": sum(map(bool, pieces))}


async def converse(model: str, *, streaming: bool) -> Any:
    agent = FunctionAgent(tools=[zoo.get_weather], llm=chosen(model), streaming=streaming)
    context = Context(agent)
    answers = [str(await agent.run(asked, ctx=context)) for asked in zoo.QUESTIONS]
    return {"answers": answers, "calls": zoo.called()}


async def tools(model: str) -> Any:
    return await converse(model, streaming=False)


async def tools_stream(model: str) -> Any:
    return await converse(model, streaming=True)


def structured(model: str) -> Any:
    return {"value": chosen(model).structured_predict(Forecast, PromptTemplate(zoo.FORM)).model_dump()}


zoo.serve(text=text, stream=stream, tools=tools, tools_stream=tools_stream, structured=structured)
