"""Test the chain of targets that a model's route makes."""

import pytest

from shared.model.errors import ModelNotFound
from shared.model.routes import Continuation, OnStreamFailure, Route, RouteTable, RouteTarget, Upstream
from tests.unit.worker.upstream.stub_provider import StubProvider
from worker.upstream.chain import Routes

ONE, TWO = RouteTarget("one", 1, 1), RouteTarget("two", 2, 2, model="b-eu")
UPSTREAMS = {
    "one": Upstream("one", "http://one.invalid"),
    "two": Upstream("two", "http://two.invalid", continuation=Continuation.PREFIX),
}


def to(*targets: RouteTarget) -> Route:
    """Build a route with this chain."""
    return Route(targets, OnStreamFailure.CONTINUE, max_attempts=3)


def routes_of(**routes: Route) -> Routes:
    """Build these routes, with a provider for each upstream."""
    return Routes(RouteTable(routes, UPSTREAMS), {name: StubProvider() for name in UPSTREAMS})


async def test_a_chain_has_its_routes_targets_in_order() -> None:
    chain = routes_of(a=Route((ONE, TWO), OnStreamFailure.FAIL, 7)).chain("a")

    assert [each.model("a") for each in chain.targets] == ["a", "b-eu"]
    assert [each.continuation for each in chain.targets] == [Continuation.NONE, Continuation.PREFIX]
    assert (chain.on_stream_failure, chain.max_attempts) == (OnStreamFailure.FAIL, 7)


async def test_a_model_that_no_route_serves_is_not_found() -> None:
    with pytest.raises(ModelNotFound, match=r"'c'. The models are: a, b\.") as missing:
        routes_of(a=to(ONE), b=to(TWO)).chain("c")
    assert missing.value.param == "model"


async def test_closing_the_routes_closes_the_providers() -> None:
    provider = StubProvider()
    await Routes(RouteTable({"*": to(ONE)}, UPSTREAMS), {"one": provider}).close()
    assert provider.closed.is_set()
