"""The bounded cache of calls' further fields."""

from gateway.dialects.recent_extras import RecentExtras

SIGNED = {"a": {"signature": "s"}}
LARGE = {"a": {"signature": "s" * 100}}


def test_the_fields_of_a_job_are_remembered_also_if_there_are_none() -> None:
    recent = RecentExtras()
    recent.put("one", SIGNED)
    recent.put("two", {})

    assert (recent.get("one"), recent.get("two"), recent.get("three")) == (SIGNED, {}, None)


def test_the_jobs_that_were_used_longest_ago_are_forgotten() -> None:
    recent = RecentExtras(most_jobs=2)
    recent.put("one", SIGNED)
    recent.put("two", SIGNED)
    recent.get("one")
    recent.put("three", SIGNED)

    assert [recent.get(each) is None for each in ("one", "two", "three")] == [False, True, False]


def test_the_bytes_of_all_jobs_are_bounded() -> None:
    recent = RecentExtras(most_bytes=300)
    for job in ("one", "two", "three"):
        recent.put(job, LARGE)
    assert [recent.get(each) is None for each in ("one", "two", "three")] == [True, False, False]

    recent.put("four", {"a": {"signature": "s" * 1000}})
    assert [recent.get(each) is None for each in ("two", "three", "four")] == [True, True, True]
    recent.put("five", LARGE)
    assert recent.get("five") == LARGE


def test_a_job_that_is_put_again_counts_once() -> None:
    recent = RecentExtras(most_bytes=300)
    for _ in range(10):
        recent.put("one", LARGE)
        recent.put("two", LARGE)

    assert (recent.get("one"), recent.get("two")) == (LARGE, LARGE)
