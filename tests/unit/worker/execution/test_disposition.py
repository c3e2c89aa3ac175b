"""Test the state in which a run leaves its job."""

import pytest

from worker.execution.disposition import Disposition, disposition


@pytest.mark.parametrize(("ended", "expected"), [(True, Disposition.ENDED), (False, Disposition.ELSEWHERE)])
def test_a_job_that_has_ended_is_not_elsewhere(ended: bool, expected: Disposition) -> None:
    assert disposition(ended) is expected
