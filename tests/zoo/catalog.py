"""The clients, what each of them is asked to do with which model, and what a client can't do by itself.

Not here: the pins (environments/), the scripts (scripts/), and how a client is run (session.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.zoo.install import Environment
from tests.zoo.session import Program

FUNCTIONS: dict[str, tuple[str, ...]] = {
    "text": ("openai", "mistral", "loose-whole"),
    "stream": ("openai", "deepseek", "mistral", "loose-unnumbered", "loose-whole"),
    "tools": ("openai", "deepseek", "gemini", "mistral", "loose-unnumbered", "loose-late-name"),
    "tools_stream": ("openai", "deepseek", "gemini", "mistral", "loose-unnumbered", "loose-late-name"),
    "structured": ("openai", "loose-whole"),
}
"""What is asked of a client, and the upstream's models that it is asked with."""


@dataclass(frozen=True)
class Client:
    """One client in one of its modes."""

    name: str
    environment: str
    script: str
    mode: str
    without: frozenset[str] = frozenset()
    """Functions that it does not have."""
    shows_thoughts: bool = False
    """It shows an upstream's thoughts while they are streamed."""

    @property
    def program(self) -> Program:
        """What runs it."""
        return Program(Environment(self.environment), self.script, self.mode)


def _modes(environment: str, script: str, *modes: str, shows: str = "", without: str = "") -> Iterator[Client]:
    for mode in modes:
        lacks = frozenset(without.split())
        yield Client(f"{environment}-{mode}", environment, script, mode, lacks, mode in shows.split())


CLIENTS: tuple[Client, ...] = (
    *_modes("langchain", "langchain_client.py", "chat", "responses", "previous", shows="responses previous"),
)

LIMITS: dict[tuple[str, str, str], str] = {}
"""What a client can't do by itself, and why, by client, function and model. Each is proved without Tailrace."""


def cases() -> Iterator[tuple[Client, str, str]]:
    """Each client with each function and model."""
    for client in CLIENTS:
        for function, models in FUNCTIONS.items():
            if function not in client.without:
                for model in models:
                    yield client, function, model
