"""Each client carries out each of its functions through Tailrace, with a strict upstream and with loose ones."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.zoo.answers import CITY, DEGREES, TEXT
from tests.zoo.catalog import LIMITS, PROVED_WITH, Client, cases
from tests.zoo.conftest import Zoo
from tests.zoo.session import ClientFailedError

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]
CASES = [pytest.param(*case, id=f"{case[0].name}-{case[1]}-{case[2]}") for case in cases()]
THOUGHTS = "I know that."
WORDS = {
    "tools": [["Bergen has 7 degrees", "Oslo has 4 degrees"], ["Tromsø has 1 degree"]],
    "commands": [["zoo-42"], ["owl-54"]],
}
"""What the final answers of two turns must contain: the results of the tools."""
WHOLE = ("loose-whole", "openai-unverified")
"""Models whose text comes in one piece."""
WITH_THOUGHTS = ("deepseek", "mistral")


@pytest.mark.parametrize(("client", "function", "model"), CASES)
async def test_a_client_gets_the_answer(
    zoo: Zoo, client: Client, function: str, model: str, record_property: Callable[[str, object], None]
) -> None:
    record_property("client", client.name)
    record_property("function", function)
    record_property("model", model)
    await zoo.forget()
    if (problem := client.program.environment.problem) is not None:
        pytest.skip(f"{client.environment} is not installed: {problem}")
    if (limit := LIMITS.get((client.name, function, model))) is not None:
        await prove(zoo, client, function, PROVED_WITH.get(model, model))
        pytest.xfail(limit)
    session = await zoo.session(client)
    try:
        faults = faults_of(client, function, model, await session.call(function, model))
    except ClientFailedError as error:
        faults = [str(error)]
    if faults:
        shown = [json.dumps(seen, ensure_ascii=False) for seen in await zoo.requests()]
        pytest.fail("\n\n".join([*faults, *shown]), pytrace=False)


async def prove(zoo: Zoo, client: Client, function: str, model: str) -> None:
    """Check that the client fails at the upstream, without Tailrace, because it does not send state back."""
    session = await zoo.session(client, direct=True)
    with pytest.raises(ClientFailedError):
        await session.call(function, model)
    assert (await zoo.requests())[-1]["state"], "It fails for another reason."


def faults_of(client: Client, function: str, model: str, answer: dict[str, Any]) -> list[str]:
    """Compare a client's answer with the upstream's."""
    expected: dict[str, Any] = {}
    match function:
        case "text":
            expected = {"text": TEXT}
        case "stream":
            expected = {"text": TEXT}
            if client.shows_thoughts and model in WITH_THOUGHTS:
                expected["thoughts"] = THOUGHTS
        case "structured" | "structured_stream":
            expected = {"value": {"city": CITY, "degrees": DEGREES}}
        case _:
            if "calls" in answer:  # a command line does not show them
                answer["calls"].sort(key=lambda call: call["city"])
                expected = {"calls": [{"city": "Bergen"}, {"city": "Oslo"}, {"city": "Tromsø"}]}
    faults = [
        f"{key}: {answer.get(key)!r} is not {value!r}" for key, value in expected.items() if answer.get(key) != value
    ]
    if function == "stream" and model not in WHOLE and answer["pieces"] < 3:
        faults.append(f"The text came in {answer['pieces']} pieces.")
    if (words := WORDS.get(function.removesuffix("_stream"))) is not None:
        answers = answer["answers"]
        if len(answers) != len(words) or any(
            word not in (text or "") for text, results in zip(answers, words, strict=True) for word in results
        ):
            faults.append(f"The final answers lack a tool's result: {answers}")
    return faults
