"""Test which models a worker publishes: those with routes, and those that the upstreams of `*` list."""

import pytest

from shared.model.errors import AttemptFailed, ProviderGarbage, ProviderUnreachable
from shared.model.model_names import ModelListing
from shared.model.routes import OnStreamFailure, Route, RouteTable, RouteTarget, Upstream
from tests.support.controlled_provider import ControlledProvider
from tests.support.core import captured_logs
from worker.upstream.model_lists import ModelLists

UNREACHABLE = ProviderUnreachable("Nobody is there.")


class Lists(ControlledProvider):
    """Return this list as the provider's, or raise this error in its place."""

    def __init__(self, listed: list[str] | AttemptFailed) -> None:
        super().__init__()
        self.listed = listed
        self.asked = 0

    async def models(self) -> list[str]:
        """Return the list, or raise the error."""
        self.asked += 1
        if isinstance(self.listed, AttemptFailed):
            raise self.listed
        return self.listed


def lists_of(*named: str, any_model: bool = True, **providers: Lists) -> ModelLists:
    """Build routes for the named models and, if `any_model`, one for all others, with all of these providers."""
    chain = Route(
        tuple(RouteTarget(name, first_token_s=1, gap_s=1) for name in providers),
        OnStreamFailure.CONTINUE,
        max_attempts=1,
    )
    routes = dict.fromkeys([*named, *(["*"] if any_model else [])], chain)
    return ModelLists(RouteTable(routes, {name: Upstream(name, "http://a") for name in providers}), providers)


async def test_a_closed_list_of_models_is_complete_without_asking_a_provider() -> None:
    provider = Lists(["c"])

    assert await lists_of("b", "a", any_model=False, one=provider).read() == (("b", "a"), True)
    assert provider.asked == 0


async def test_a_route_for_other_models_adds_the_lists_of_its_providers() -> None:
    assert await lists_of("b", one=Lists(["b", "c"]), two=Lists(["a", "c"])).read() == (("b", "c", "a"), True)


@pytest.mark.parametrize("failing", [Lists(UNREACHABLE), Lists(ProviderGarbage("?")), Lists([])])
async def test_the_listing_is_incomplete_if_one_provider_does_not_answer(failing: Lists) -> None:
    assert await lists_of(one=Lists(["a"]), two=failing).read() == (("a",), False)


async def test_a_list_that_can_not_be_read_now_is_the_one_of_the_last_time() -> None:
    one, two = Lists(["a"]), Lists(["b"])
    lists = lists_of(one=one, two=two)
    assert await lists.read() == (("a", "b"), True)
    two.listed = UNREACHABLE
    assert await lists.read() == (("a", "b"), False)
    two.listed, one.listed = ["c"], []
    assert await lists.read() == (("c",), False)
    one.listed = ["d"]
    assert await lists.read() == (("d", "c"), True)


async def test_a_listing_is_not_made_if_no_provider_answers() -> None:
    with captured_logs() as logs:
        assert await lists_of(one=Lists(UNREACHABLE)).read() is None
    (event,) = logs.named("worker.no_models")
    assert (event["provider"], event["reason"]) == ("one", str(UNREACHABLE))

    assert await lists_of("a", one=Lists(UNREACHABLE)).read() == (("a",), False)
    assert await lists_of(one=Lists([])).read() == ModelListing()


async def test_names_that_are_unfit_are_left_out_and_logged_by_number_when_that_is_news() -> None:
    provider = Lists(["good", "\x1b[2J", "a\u202eb", "x" * 10_000, "good"])
    lists = lists_of(one=provider)
    with captured_logs() as logs:
        for _ in range(2):
            assert await lists.read() == (("good",), True)
        provider.listed = ["\ud800"]
        assert await lists.read() == ((), False)
        provider.listed = ["good"]
        assert await lists.read() == (("good",), True)

    assert [each["models"] for each in logs.named("worker.models_left_out")] == [3, 1]
    assert "\\x1b" not in repr(logs.named("worker.models_left_out"))


async def test_a_list_of_100_000_is_cut_and_more_may_exist() -> None:
    listing = await lists_of(one=Lists([f"model-{number}" for number in range(100_000)])).read()

    assert listing is not None
    assert (len(listing.models), listing.complete) == (10_000, False)
