"""OpenAI's Agents SDK: chat completions, Responses, and Responses by `previous_response_id`."""

import sys
from typing import Any

import zoo
from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
from agents.model_settings import ModelSettings
from openai import AsyncOpenAI
from openai.types.shared import Reasoning
from pydantic import BaseModel

MODE = sys.argv[1]
set_tracing_disabled(True)


class Forecast(BaseModel):
    """A forecast."""

    city: str
    degrees: int


def agent(model: str, **options: Any) -> Agent:
    client = AsyncOpenAI(base_url=zoo.BASE_URL, api_key=zoo.KEY, max_retries=0)
    settings = ModelSettings()
    if MODE == "chat":
        chosen = OpenAIChatCompletionsModel(model, openai_client=client)
    else:
        chosen = OpenAIResponsesModel(model, openai_client=client)
        settings = ModelSettings(reasoning=Reasoning(summary="auto"))
    return Agent("zoo", instructions="Be brief.", model=chosen, model_settings=settings, **options)


async def text(model: str) -> Any:
    return {"text": (await Runner.run(agent(model), zoo.QUESTION)).final_output}


async def stream(model: str) -> Any:
    pieces, thoughts = [], []
    result = Runner.run_streamed(agent(model), zoo.QUESTION)
    async for event in result.stream_events():
        if event.type == "raw_response_event":
            if event.data.type == "response.output_text.delta":
                pieces.append(event.data.delta)
            elif event.data.type == "response.reasoning_summary_text.delta":
                thoughts.append(event.data.delta)
    assert result.final_output == "".join(pieces), result.final_output
    return {"text": "".join(pieces), "pieces": len(pieces), "thoughts": "".join(thoughts)}


async def once(asked: Agent, content: Any, **options: Any) -> Any:
    return await Runner.run(asked, content, **options)


async def streamed(asked: Agent, content: Any, **options: Any) -> Any:
    result = Runner.run_streamed(asked, content, **options)
    async for _ in result.stream_events():
        pass
    return result


async def converse(model: str, run: Any) -> Any:
    asked = agent(model, tools=[function_tool(zoo.get_weather)])
    answers, history, options = [], [], {}
    if MODE == "previous":
        options["auto_previous_response_id"] = True
    for question in zoo.QUESTIONS:
        history = [*history, {"role": "user", "content": question}]
        result = await run(asked, history, **options)
        answers.append(result.final_output)
        if MODE == "previous":
            history, options = [], {"previous_response_id": result.last_response_id}
        else:
            history = result.to_input_list()
    return {"answers": answers, "calls": zoo.called()}


async def tools(model: str) -> Any:
    return await converse(model, once)


async def tools_stream(model: str) -> Any:
    return await converse(model, streamed)


async def structured(model: str) -> Any:
    result = await Runner.run(agent(model, output_type=Forecast), zoo.FORM)
    return {"value": result.final_output.model_dump()}


zoo.serve(text=text, stream=stream, tools=tools, tools_stream=tools_stream, structured=structured)
