"""The `llm` library with its chat and Responses models, and its command line."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import llm
import yaml
import zoo
from llm.default_plugins.openai_models import Chat, Responses
from pydantic import BaseModel

MODE = sys.argv[1]


class Forecast(BaseModel):
    """A forecast."""

    city: str
    degrees: int


def chosen(model: str) -> Any:
    kind = Responses if MODE == "responses" else Chat
    return kind(
        f"zoo-{model}",
        key=zoo.KEY,
        model_name=model,
        api_base=zoo.BASE_URL,
        reasoning=MODE == "responses",
        supports_schema=True,
        supports_tools=True,
    )


def text(model: str) -> Any:
    return {"text": chosen(model).prompt(zoo.QUESTION, stream=False).text()}


def stream(model: str) -> Any:
    pieces = list(chosen(model).prompt(zoo.QUESTION, stream=True))
    return {"text": "".join(pieces), "pieces": sum(map(bool, pieces))}


def converse(model: str, *, streaming: bool) -> Any:
    conversation = chosen(model).conversation(tools=[llm.Tool.function(zoo.get_weather)])
    answers = ["".join(conversation.chain(question, stream=streaming)) for question in zoo.QUESTIONS]
    return {"answers": answers, "calls": zoo.called()}


def tools(model: str) -> Any:
    return converse(model, streaming=False)


def tools_stream(model: str) -> Any:
    return converse(model, streaming=True)


def structured(model: str) -> Any:
    return {"value": json.loads(chosen(model).prompt(zoo.FORM, schema=Forecast, stream=False).text())}


def command(model: str, *arguments: str) -> str:
    """Run the command line with a configured model."""
    home = Path.cwd() / "llm"
    home.mkdir(exist_ok=True)
    names = {"model_id": "zoo", "model_name": model, "api_base": zoo.BASE_URL, "api_key_name": "zoo"}
    (home / "keys.json").write_text(json.dumps({"zoo": zoo.KEY}))
    models = [{**names, "supports_tools": True, "supports_schema": True}]
    (home / "extra-openai-models.yaml").write_text(yaml.safe_dump(models))
    done = subprocess.run(
        [sys.executable, "-m", "llm", *arguments],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=25,
        env={**os.environ, "LLM_USER_PATH": str(home)},
    )
    return done.stdout.removesuffix("\n")


def command_text(model: str) -> Any:
    return {"text": command(model, "-m", "zoo", "--no-stream", zoo.QUESTION)}


def command_tools(model: str) -> Any:
    function = (
        f"def get_weather(city: str) -> str:\n"
        f'    """Get the weather of a city."""\n'
        f"    return city + ' has ' + {zoo.WEATHER!r}[city]\n"
    )
    again, options = [], ("-m", "zoo", "--functions", function)
    answers = []
    for question in zoo.QUESTIONS:
        answers.append(command(model, *options, *again, question))
        again = ["--continue"]
    return {"answers": answers}


def command_structured(model: str) -> Any:
    form = json.dumps(Forecast.model_json_schema())
    return {"value": json.loads(command(model, "-m", "zoo", "--schema", form, zoo.FORM))}


if MODE == "command":
    zoo.serve(text=command_text, tools=command_tools, structured=command_structured)
else:
    zoo.serve(text=text, stream=stream, tools=tools, tools_stream=tools_stream, structured=structured)
