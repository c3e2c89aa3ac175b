"""Test a scrape's answer: every process's series under its name, in a format that Prometheus reads."""

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from structlog.testing import capture_logs

from gateway.http.scrape import encode, format_of, merged, readable, shown
from shared.model.metrics import FleetMetrics, Metrics, encode_samples

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


def worker(ended: int, *waits: float) -> Metrics:
    """Build the metrics of one worker."""
    metrics = Metrics()
    metrics.ended.of("completed", "").add(ended)
    for wait in waits:
        metrics.wait.of("default").observe(wait)
    return metrics


def answer(accept: str = "") -> tuple[str, str]:
    """Encode the metrics of two workers and a lane."""
    fleet = FleetMetrics()
    fleet.waiting.of("default").read = lambda: 4
    processes = {"worker-b": worker(2).samples(), "worker-a": worker(1, 0.003, 0.02, 1000.0).samples()}
    body, content_type = encode([*shown(fleet.families, fleet.samples()), *merged(processes)], format_of(accept))
    return body.decode(), content_type


def series(text: str, name: str) -> dict[tuple[str, ...], float]:
    """Return the samples of a name: their labels' values, in the order of the labels' names."""
    found = [sample for metric in read_text(text) for sample in metric.samples if sample.name == name]
    return {tuple(value for _, value in sorted(sample.labels.items())): sample.value for sample in found}


def test_a_metric_of_processes_has_one_series_for_each_process_and_none_for_the_fleet() -> None:
    text, content_type = answer()

    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert series(text, "tailrace_jobs_ended_total") == {
        ("", "worker-a", "completed"): 1,
        ("", "worker-b", "completed"): 2,
    }
    assert series(text, "tailrace_lane_waiting_jobs") == {("default",): 4}


def test_a_histogram_counts_up_to_each_bound() -> None:
    text, _ = answer()
    buckets = {le: count for (_, le, _), count in series(text, "tailrace_job_wait_seconds_bucket").items()}

    assert (buckets["0.005"], buckets["0.01"], buckets["0.05"], buckets["300.0"], buckets["+Inf"]) == (1, 1, 2, 2, 3)
    assert series(text, "tailrace_job_wait_seconds_count") == {("default", "worker-a"): 3}
    assert series(text, "tailrace_job_wait_seconds_sum") == {("default", "worker-a"): pytest.approx(1000.023)}


def test_each_metric_appears_once_with_its_help_even_if_never_counted() -> None:
    text, _ = answer()
    reported = [line.split(" ")[2] for line in text.splitlines() if line.startswith("# HELP")]

    assert reported == [family.name for metrics in (FleetMetrics(), Metrics()) for family in metrics.families]


def test_a_scraper_gets_openmetrics_on_request() -> None:
    text, content_type = answer(OPENMETRICS)

    assert content_type.startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    assert text.endswith("# EOF\n")
    found = {metric.name: metric.type for metric in read_openmetrics(text)}  # type: ignore[no-untyped-call]
    assert found["tailrace_jobs_ended"] == "counter"
    assert found["tailrace_job_wait_seconds"] == "histogram"


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        "text/html",
        "application/openmetrics-text;version=next",
        "text/plain;version=",
        "text/plain;version=0.0.4",
    ],
)
def test_any_other_accept_header_gets_plain_text(accept: str) -> None:
    assert answer(accept) == answer()


def test_a_process_whose_samples_can_not_be_read_is_left_out_and_logged() -> None:
    good = encode_samples(worker(1).samples())
    with capture_logs() as logs:
        found = readable({"worker-a": good, "worker-b": b"nonsense"})

    assert list(found) == ["worker-a"]
    assert [(line["event"], line["process"]) for line in logs] == [("scrape.unreadable", "worker-b")]
