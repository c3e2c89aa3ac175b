"""Test the order of any graph of steps: each step comes after those that it names, or a cycle is found."""

from graphlib import CycleError, TopologicalSorter

from hypothesis import given
from hypothesis import strategies as st

from shared.model.workflows import cycle_in, order_of


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, list[str]]:
    """Generate a graph of up to ten steps."""
    names = [f"s{number}" for number in range(draw(st.integers(1, 10)))]
    return {name: draw(st.lists(st.sampled_from(names), max_size=3)) for name in draw(st.permutations(names))}


@given(graphs())
def test_a_graph_has_an_order_or_a_cycle_as_the_standard_library_finds(graph: dict[str, list[str]]) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError:
        cycle = cycle_in(graph)
        assert len(order_of(graph)) < len(graph)
        assert all(after in graph[name] for name, after in zip(cycle, [*cycle[1:], cycle[0]], strict=True))
        assert len(set(cycle)) == len(cycle) > 0
    else:
        order = order_of(graph)
        assert (cycle_in(graph), sorted(order)) == ([], sorted(graph))
        assert all(order.index(parent) < order.index(name) for name in graph for parent in graph[name])
