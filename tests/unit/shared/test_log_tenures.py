"""An idle worker finds out that another one has begun (P5)."""

import pytest

from monstermq_shared.errors import StoreConflict, TenureEnded
from monstermq_shared.positions import Partition
from monstermq_shared.stores.changes import Tenure
from monstermq_shared.views.log_tenures import Holders, TenureWatch

OURS, ANOTHERS = "ours", "another's"


def a_tenure(version: int = 5, token: str = OURS) -> Tenure:
    return Tenure(
        partition=Partition("log", 3),
        projections=("a", "b"),
        marks={},
        token=token,
        version=version,
    )


def holders(version: int, token: str, b_token: str | None = None) -> Holders:
    return {("a", 3): (version, token), ("b", 3): (version, b_token or token)}


@pytest.mark.parametrize(
    "found",
    [holders(6, ANOTHERS), holders(5, OURS, ANOTHERS), holders(4, OURS), {}],
    ids=["another's", "one is another's", "lost", "gone"],
)
def test_what_is_not_ours_any_more_is_given_up(found: Holders) -> None:
    watch, tenure = TenureWatch(), a_tenure()
    watch.look([tenure], found, 1.0, 2.0)
    with pytest.raises(StoreConflict):
        watch.look([tenure], found, 3.0, 4.0)


@pytest.mark.parametrize(
    "found", [holders(6, ""), {**holders(5, OURS), ("b", 3): (6, "")}], ids=["both", "one"]
)
def test_what_a_command_has_ended_is_nobody_elses(found: Holders) -> None:
    watch, tenure = TenureWatch(), a_tenure()
    watch.look([tenure], found, 1.0, 2.0)
    with pytest.raises(TenureEnded):
        watch.look([tenure], found, 3.0, 4.0)


def test_ours_stays_ours_also_if_the_answer_to_a_commit_is_still_under_way() -> None:
    watch, tenure = TenureWatch(), a_tenure()
    for at_s in range(0, 10, 2):
        watch.look([tenure], holders(5, OURS), at_s + 1.0, at_s + 2.0)
    watch.look([tenure], holders(6, OURS), 11.0, 12.0)


def test_an_answer_from_before_proves_nothing() -> None:
    """It may be older than what we have begun or committed."""
    watch, tenure = TenureWatch(), a_tenure()
    watch.look([tenure], holders(5, OURS), 1.0, 2.0)
    watch.look([tenure], holders(4, ANOTHERS), 1.5, 3.0)
    tenure.version = 9
    watch.look([tenure], holders(5, OURS), 3.5, 4.0)
    newer = a_tenure(7, "also ours")
    watch.look([newer], holders(9, OURS), 5.0, 6.0)
    watch.look([newer], holders(7, "also ours"), 7.0, 8.0)
