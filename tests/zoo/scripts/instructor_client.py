"""instructor: structured output by tools, by JSON schema, and by the tools of Responses, whole and streamed."""

import sys
from typing import Any

import instructor
import zoo
from openai import OpenAI
from pydantic import BaseModel

MODES = {
    "tools": instructor.Mode.TOOLS,
    "schema": instructor.Mode.JSON_SCHEMA,
    "responses": instructor.Mode.RESPONSES_TOOLS,
}


class Forecast(BaseModel):
    """A forecast."""

    city: str
    degrees: int


client = instructor.from_openai(OpenAI(base_url=zoo.BASE_URL, api_key=zoo.KEY, max_retries=0), mode=MODES[sys.argv[1]])
MESSAGES = [{"role": "user", "content": zoo.FORM}]


def structured(model: str) -> Any:
    value = client.create(model=model, messages=MESSAGES, response_model=Forecast, max_retries=0)
    return {"value": value.model_dump()}


def structured_stream(model: str) -> Any:
    seen = list(client.create_partial(model=model, messages=MESSAGES, response_model=Forecast, max_retries=0))
    return {"value": seen[-1].model_dump()}


zoo.serve(structured=structured, structured_stream=structured_stream)
