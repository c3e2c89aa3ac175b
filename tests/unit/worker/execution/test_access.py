"""Test the access of kinds that call no provider."""

import pytest

from shared.model.errors import ProviderTimeout, ProviderUnable
from worker.execution.access import without_provider
from worker.upstream.breakers import CallOrigin


async def test_each_attempt_without_a_provider_is_permitted_and_none_is_remembered() -> None:
    access = without_provider(max_attempts=4)
    chain, origin = access.chains.chain(""), CallOrigin("alice", {})
    for _ in range(3):
        permit = await access.selector.enter("job", chain.targets, (0,), "", origin)
        assert permit is not None
        permit.check()
        assert (permit.provider, permit.model, permit.circuit_open) == ("", "", False)
        access.selector.failed("job", permit, ProviderTimeout("too late"))
        access.selector.succeeded("job", permit)
        await access.selector.leave("job", permit)

    assert (chain.max_attempts, len(chain.targets)) == (4, 1)


async def test_its_target_calls_nothing() -> None:
    (target,) = without_provider(max_attempts=1).chains.chain("").targets

    with pytest.raises(ProviderUnable, match="no provider that it could call"):
        async with target.stream({}, total_s=1) as chunks:
            await anext(chunks)
