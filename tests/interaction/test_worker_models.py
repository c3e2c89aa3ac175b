"""Test the models that a worker publishes."""

from shared.model.errors import ProviderUnreachable
from tests.support.controlled_provider import ControlledProvider
from tests.support.core import captured_logs
from tests.support.system import System, running_worker


async def test_the_models_of_the_provider_can_be_asked_for(system: System) -> None:
    async with system.commands() as seen, running_worker(system.settings, ControlledProvider()):
        await seen(f"SET {system.core.keys.models}")
        listed = (await system.client.get("/v1/models")).json()

    assert [model["id"] for model in listed["data"]] == ["mock"]


async def test_models_in_the_settings_are_published(system: System) -> None:
    settings = system.settings.model_copy(update={"models": ("large", "small")})
    async with system.commands() as seen, running_worker(settings, ControlledProvider()):
        await seen(f"SET {system.core.keys.models}")
        listed = (await system.client.get("/v1/models")).json()
        story = await system.story(await system.submit(model="huge"))

    assert [model["id"] for model in listed["data"]] == ["large", "small"]
    assert (story.types, story.code) == (["queued", "failed"], "model_not_found")


async def test_a_provider_that_does_not_list_its_models_answers_all_the_same(system: System) -> None:
    class Silent(ControlledProvider):
        async def models(self) -> list[str]:
            raise ProviderUnreachable("Not now.")

    with captured_logs() as logs:
        async with running_worker(system.settings, Silent(on_call=lambda call: call.end())):
            await logs.wait_for("worker.no_models")
            assert (await system.story(await system.submit())).types[-1] == "completed"
