"""Test metrics: well named and explained, counted in plain cells, and unchanged by a round trip through Redis."""

import itertools
import json
import re

import pytest

from shared.model.metrics import Family, FleetMetrics, Kind, Metrics, Sample, decode_samples, encode_samples

FAMILIES = [family for metrics in (FleetMetrics(), Metrics()) for family in metrics.families]
# Prometheus, metric and label naming: base units, and the suffix `_total` for counters.
UNITS = {Kind.COUNTER: ("_total",), Kind.HISTOGRAM: ("_seconds", "_bytes")}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_metric_is_named_and_explained_as_prometheus_wants_it(family: Family) -> None:
    assert re.fullmatch(r"tailrace_[a-z]+(_[a-z]+)*", family.name)
    assert not re.search(r"_(ms|millis\w*|minutes|kib|mib|kilo\w*|count|sum|bucket)(_|$)", family.name)
    assert family.name.endswith(UNITS.get(family.kind, ""))
    assert family.name.endswith("_total") == (family.kind is Kind.COUNTER)
    assert len(family.help) > 10 and not family.help.endswith(".")
    assert all(re.fullmatch(r"[a-z]+", label) for label in family.labels)
    assert len(set(family.labels)) == len(family.labels)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_only_histograms_have_buckets_and_they_ascend(family: Family) -> None:
    assert bool(family.bounds) == (family.kind is Kind.HISTOGRAM)
    assert all(0 < low < high for low, high in itertools.pairwise(family.bounds))


def test_no_label_can_hold_a_value_that_a_caller_chose() -> None:
    assert {label for family in FAMILIES for label in family.labels} == {
        *("lane", "status", "code", "type", "provider", "side", "method", "route", "bound"),
    }


def test_no_two_metrics_share_a_name() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES) > 20


def test_a_counter_starts_at_nothing_when_it_is_first_asked_for() -> None:
    metrics = Metrics()
    assert metrics.samples() == {}
    cell = metrics.executions.of()
    assert metrics.samples() == {"tailrace_executions_total": [Sample((), (0.0,))]}
    cell.add()
    cell.add(2)
    assert metrics.samples() == {"tailrace_executions_total": [Sample((), (3.0,))]}


def test_each_set_of_labels_has_a_cell_of_its_own() -> None:
    metrics = Metrics()
    metrics.ended.of("completed", "").add()
    metrics.ended.of("failed", "server_error").add()
    metrics.ended.of("completed", "").add()

    assert metrics.ended.samples() == [
        Sample(("completed", ""), (2.0,)),
        Sample(("failed", "server_error"), (1.0,)),
    ]


def test_a_cell_without_its_labels_is_a_defect() -> None:
    with pytest.raises(
        TypeError, match=r"^tailrace_jobs_ended_total has the labels \('status', 'code'\), not \('x',\)"
    ):
        Metrics().ended.of("x")


def test_a_gauge_is_read_at_each_scrape() -> None:
    metrics, waiting = Metrics(), [1, 2]
    metrics.readers.of().read = lambda: len(waiting)
    waiting.append(3)

    assert metrics.readers.samples() == [Sample((), (3.0,))]


def test_a_histogram_puts_a_value_into_the_first_bucket_whose_bound_is_not_below_it() -> None:
    metrics = Metrics()
    cell, bounds = metrics.append.of(), metrics.append.family.bounds
    for value in (0.0, bounds[0], bounds[1], bounds[-1] + 1):
        cell.observe(value)

    *counts, total = cell.numbers()
    assert counts == [2, 1, *[0] * (len(bounds) - 2), 1]
    assert total == pytest.approx(bounds[0] + bounds[1] + bounds[-1] + 1)
    assert metrics.append.family.size == len(cell.numbers())


def counted() -> Metrics:
    """Build the metrics of a process that has worked."""
    metrics = Metrics()
    metrics.ended.of("failed", "server_error").add(3)
    metrics.readers.of().read = lambda: 7
    metrics.wait.of("default").observe(0.2)
    return metrics


def test_samples_are_the_same_after_a_passage_through_redis() -> None:
    metrics = counted()
    read = decode_samples(encode_samples(metrics.samples()), metrics.families)

    assert {name: samples for name, samples in read.items() if samples} == metrics.samples()


def test_samples_of_another_version_that_do_not_fit_are_left_out() -> None:
    found = json.loads(encode_samples(counted().samples()))
    found["tailrace_of_tomorrow_total"] = [[[], [1]]]
    found["tailrace_jobs_ended_total"] += [[["failed"], [1]], [["failed", "x"], [1, 2]], [["a", 1], [1]], 7, [1]]
    found["tailrace_job_wait_seconds"] = [[["default"], [1, 2]]]
    found["tailrace_readers"] = "7"
    read = decode_samples(json.dumps(found).encode(), Metrics().families)

    assert {name: samples for name, samples in read.items() if samples} == {
        "tailrace_jobs_ended_total": [Sample(("failed", "server_error"), (3.0,))]
    }


@pytest.mark.parametrize("raw", [b"", b"[]", b"7", b"\xff", b"{"])
def test_malformed_samples_are_an_error(raw: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # any message of json's
        decode_samples(raw, Metrics().families)


def test_a_silent_one_counts_nothing() -> None:
    metrics = Metrics(silent=True)
    metrics.executions.of().add()
    metrics.append.of().observe(0.1)

    numbers = [sample.numbers for samples in metrics.samples().values() for sample in samples]
    assert len(numbers) == 2
    assert not any(map(any, numbers))
