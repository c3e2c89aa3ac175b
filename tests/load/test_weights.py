"""The weights of a gateway's items are those of the README's table: measured here with fewer items."""

import pytest

from shared.config.settings import Settings
from tests.load.weights import CHILD_KIB, CHILD_PEAK_KIB, KINDS, Kind, Weight, connections, weigh, weigh_child
from tests.support.docs import DOCS

SHARE = 0.3
LASTING = [kind for kind in KINDS if not kind.passing]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", LASTING, ids=lambda kind: kind.name)
async def test_an_item_weighs_as_much_as_the_readme_says(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    # Coverage would be weighed, too.
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    monkeypatch.delenv("COVERAGE_PROCESS_START", raising=False)

    weight = await weigh(settings, kind, share=SHARE)

    assert weight.is_as_told, f"{weight.kib:.1f} KiB, and not {kind.kib:.1f}"


async def test_the_process_for_large_bodies_weighs_as_much_as_the_readme_says() -> None:
    weight = await weigh_child()

    assert weight.is_as_told, weight
    claim = f"has {CHILD_KIB // 1024} MiB by itself, and up to {CHILD_PEAK_KIB // 1024} MiB while it decodes a megabyte"
    assert claim in " ".join(DOCS.split())


def test_the_readme_has_the_weights() -> None:
    table = DOCS.partition("<!-- weights:")[2].partition("|---|---|\n")[2].partition("\n\n")[0]

    assert table.splitlines() == [kind.row(kind.kib) for kind in KINDS]


@pytest.mark.parametrize(
    ("kib", "passing", "is_as_told"),
    [
        *((100, False, True), (86, False, True), (114, False, True), (84, False, False), (116, False, False)),
        *((10, True, True), (114, True, True), (116, True, False)),
    ],
)
def test_a_weight_matches_its_documented_value_within_a_tolerance(kib: float, passing: bool, is_as_told: bool) -> None:
    assert Weight(Kind("a", 100, 1, connections, passing), kib).is_as_told == is_as_told
