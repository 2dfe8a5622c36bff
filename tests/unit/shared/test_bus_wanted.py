"""Which topics are wanted, as they stand in the log."""

from monstermq_shared.bus.wanted import REMEMBERED_SIZE, Wanted


def test_what_one_of_the_filters_matches_is_taken() -> None:
    wanted = Wanted(["a/+", "b/#"])
    for _ in range(2):  # worked out, and remembered
        assert wanted.takes(b"a/1")
        assert wanted.takes(b"b")
        assert not wanted.takes(b"a/1/2")
        assert not wanted.takes(b"\xff")


def test_long_topics_are_not_remembered_for_ever() -> None:
    wanted = Wanted(["a/#"])
    long = b"x" * 60_000
    for number in range(2 * REMEMBERED_SIZE // len(long)):
        assert wanted.takes(b"a/%d/%b" % (number, long))
    assert sum(map(len, wanted._known)) <= REMEMBERED_SIZE
    assert wanted.takes(b"a/0/%b" % long)
