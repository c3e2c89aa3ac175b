"""List the clients, the functions and models of each, and the limits that a client has by itself.

Not here: the pins (environments/), the scripts (scripts/), and how a client is run (session.py).
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.zoo.install import Environment
from tests.zoo.session import Program

_CALLING = ("openai", "deepseek", "gemini", "mistral", "loose-unnumbered", "loose-late-name")
FUNCTIONS: dict[str, tuple[str, ...]] = {
    "text": ("openai", "mistral", "loose-whole"),
    "stream": ("openai", "openai-unverified", "deepseek", "mistral", "loose-unnumbered", "loose-whole"),
    "tools": ("openai", "deepseek", "gemini", "mistral", "loose-unnumbered", "loose-late-name"),
    "tools_stream": (
        "openai",
        "openai-unverified",
        "deepseek",
        "gemini",
        "mistral",
        "loose-unnumbered",
        "loose-late-name",
    ),
    "commands": ("openai", "deepseek", "gemini", "mistral", "loose-unnumbered", "loose-late-name"),
    "structured": ("openai", "loose-whole"),
    "structured_stream": ("openai", "loose-unnumbered"),
}
"""The functions of clients, and the upstream's models that each is tried with."""


@dataclass(frozen=True)
class Client:
    """One client in one of its modes."""

    name: str
    environment: str
    script: str
    mode: str
    functions: frozenset[str]
    """The functions that it has."""
    shows_thoughts: bool = False
    """It shows an upstream's thoughts while they are streamed."""

    @property
    def release(self) -> str:
        """Its main package, with the pinned version."""
        package = _PACKAGES[self.environment]
        pins = self.program.environment.pins
        if (manifest := pins / "package.json").exists():
            return f"{package} {json.loads(manifest.read_text())['dependencies'][package]}"
        pin = re.search(rf"^{package}==(\S+)", (pins / "requirements.txt").read_text(), re.MULTILINE)
        assert pin is not None, package
        return f"{package} {pin[1]}"

    @property
    def program(self) -> Program:
        """Return the process that runs it."""
        return Program(Environment(self.environment), self.script, self.mode)


_PACKAGES = {
    "ai6": "ai",
    "ai7": "ai",
    "autogen": "autogen-ext",
    "codex": "@openai/codex",
    "haystack": "haystack-ai",
    "instructor": "instructor",
    "langchain": "langchain-openai",
    "litellm": "litellm",
    "llamaindex": "llama-index-llms-openai-like",
    "llm": "llm",
    "openai_agents": "openai-agents",
    "pydantic_ai": "pydantic-ai-slim",
    "smolagents": "smolagents",
}
"""Each environment's main package."""
_USUAL = "text stream tools tools_stream structured"


def _modes(environment: str, script: str, *modes: str, shows: str = "", only: str = _USUAL) -> Iterator[Client]:
    for mode in modes:
        functions = frozenset(only.split())
        yield Client(f"{environment}-{mode}", environment, script, mode, functions, mode in shows.split())


CLIENTS: tuple[Client, ...] = (
    *_modes(
        "ai6", "ai_sdk_client.mjs", "chat", "responses", "itself", "compatible", shows="responses itself compatible"
    ),
    *_modes(
        "ai7", "ai_sdk_client.mjs", "chat", "responses", "itself", "compatible", shows="responses itself compatible"
    ),
    *_modes("autogen", "autogen_client.py", "chat", shows="chat"),
    *_modes("codex", "codex_client.mjs", "exec", only="text commands"),
    *_modes("haystack", "haystack_client.py", "chat", "responses", shows="responses"),
    *_modes("instructor", "instructor_client.py", "tools", "schema", "responses", only="structured structured_stream"),
    *_modes("langchain", "langchain_client.py", "chat", "responses", "plain", "previous", shows="responses previous"),
    *_modes("litellm", "litellm_client.py", "chat", "responses"),
    *_modes("llamaindex", "llamaindex_client.py", "openai", "like", "responses"),
    *_modes("llamaindex", "llamaindex_client.py", "completions", only="text stream"),
    *_modes("llm", "llm_client.py", "chat", "responses"),
    *_modes("llm", "llm_client.py", "command", only="text tools structured"),
    *_modes("openai_agents", "openai_agents_client.py", "chat", "responses", "previous", shows="responses previous"),
    *_modes("pydantic_ai", "pydantic_ai_client.py", "chat", "responses", "previous", shows="chat responses previous"),
    *_modes("smolagents", "smolagents_client.py", "chat"),
)

_THOUGHTS = "it does not send an assistant's reasoning_content back"
_SIGNATURES = "it does not send a tool call's extra_content back"
_BOTH = ("tools", "tools_stream")
LIMITS: dict[tuple[str, str, str], str] = {
    ("litellm-chat", "tools_stream", "gemini"): _SIGNATURES,
    **{("ai6-compatible", function, "gemini"): _SIGNATURES for function in _BOTH},
    **{
        (client, function, model): reason
        for client in (
            *("ai6-chat", "ai7-chat", "autogen-chat", "haystack-chat", "langchain-chat", "llamaindex-like"),
            *("llamaindex-openai", "llm-chat", "llm-command"),
        )
        for function in _BOTH
        for model, reason in (("deepseek", _THOUGHTS), ("gemini", _SIGNATURES))
    },
}
"""Why a client in chat mode can't call tools of a model that demands its state back. It is proved without Tailrace."""
PROVED_WITH = {"gemini": "gemini-plain"}
"""The model that a limit is proved with, if the client would stumble over the model's loose words before."""


def cases() -> Iterator[tuple[Client, str, str]]:
    """Each client with each function and model."""
    for client in CLIENTS:
        for function, models in FUNCTIONS.items():
            if function in client.functions:
                for model in models:
                    yield client, function, model
