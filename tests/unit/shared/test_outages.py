"""One trouble of a database is told once when it begins and once when it is over."""

import pytest

from monstermq_shared.errors import StoreUnavailable
from monstermq_shared.stores.outages import Outage

GONE = StoreUnavailable("it is gone")
FULL = StoreUnavailable("it is full")
BEGUN = "X: commits fail, and are repeated: it is gone"


def test_whoever_notices_it_first_tells_it_and_the_last_that_succeeds_ends_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outage = Outage("X")
    outage.passed("commits")
    outage.failed("commits", GONE)
    outage.failed("reads", FULL)
    outage.failed("commits", FULL)
    assert outage.reasons == {"commits": "it is full", "reads": "it is full"}
    assert outage.told == "X: commits, reads fail: it is full"
    outage.passed("commits")
    assert outage.reason == "it is full"
    outage.passed("reads")
    assert not outage.reasons
    assert caplog.messages == [BEGUN, "X: works again, after 3 failures"]


def test_what_nobody_tries_any_more_is_over_with_the_next_success(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outage = Outage("X")
    outage.given_up("reads")
    outage.failed("commits", GONE)
    outage.failed("reads", GONE)
    outage.given_up("reads")
    assert outage.reasons
    outage.passed("commits")
    assert not outage.reasons
    assert caplog.messages == [BEGUN, "X: works again, after 2 failures"]


def test_what_is_tried_again_is_not_given_up(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage("X")
    outage.failed("commits", GONE)
    outage.given_up("commits")
    outage.failed("commits", GONE)
    outage.passed("reads")
    assert outage.reasons == {"commits": "it is gone"}
    assert caplog.messages == [BEGUN]


def test_the_next_trouble_is_told_anew(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage("X")
    for _ in range(2):
        outage.failed("commits", GONE)
        outage.passed("commits")
    assert caplog.messages == 2 * [BEGUN, "X: works again, after 1 failures"]
