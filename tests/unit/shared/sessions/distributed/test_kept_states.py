"""What an edge knows of a kept session as of its claim (E2)."""

from monstermq_shared.bus.facts import Claim, Detach, Fact, Lease, Subs
from monstermq_shared.counters import Counters
from monstermq_shared.positions import Mark
from monstermq_shared.sessions.distributed.kept_states import KeptStates
from monstermq_shared.sessions.distributed.session_state import SessionState
from monstermq_shared.stores.queues import KeptRow, KeptRows

RUN = b"12345678"


def states(size_max: int = 1_000_000) -> KeptStates:
    made = KeptStates(1, size_max, Counters())
    made.begin({0: 10})
    return made


def claim(client_id: str = "c", *, clean: bool = False) -> Claim:
    return Claim(client_id=client_id, clean=clean, expiry_s=9, will=None, run=RUN, protocol=4)


def subs(epoch: int, *filters: str) -> Subs:
    return Subs(client_id="c", epoch=epoch, add=tuple((name, 1, 0) for name in filters))


def row(epoch: int, incarnation: int, *filters: str, attached: bool = True) -> KeptRow:
    return KeptRow(
        epoch=epoch,
        incarnation=incarnation,
        expiry_s=9,
        attached=attached,
        subscriptions=dict.fromkeys(filters, (1, 0)),
        in_flight={},
        sent=(),
    )


def ask(made: KeptStates, epoch: int, reflected: int, found: KeptRow | None) -> SessionState | None:
    told: list[SessionState | None] = []
    made.ask(0, "c", epoch, told.append)
    assert made.take_reads() == {0: ["c"]}
    made.rows(0, ["c"], KeptRows(Mark(reflected, reflected), {} if found is None else {"c": found}))
    (state,) = told
    return state


def take(made: KeptStates, *facts: tuple[int, Fact]) -> None:
    for offset, fact in facts:
        made.take(0, offset, fact, 1_000)


def test_facts_above_the_rows_are_laid_over_them() -> None:
    made = states()
    take(made, (10, subs(5, "a")), (11, Lease(run=RUN, for_ms=1)), (12, claim()))
    take(made, (13, subs(12, "later")))
    state = ask(made, 12, 10, row(5, 3, "b"))
    assert state is not None
    assert [name for name, _, _ in state.subscriptions] == ["b", "a"]
    assert (state.epoch, state.incarnation) == (12, 3)


def test_facts_that_the_rows_show_already_are_not_laid_over_them() -> None:
    made = states()
    take(made, (10, subs(5, "a")), (11, subs(5, "b")), (12, claim()))
    state = ask(made, 12, 12, row(5, 3, "b"))
    assert state is not None
    assert [name for name, _, _ in state.subscriptions] == ["b"]


def test_a_client_that_nobody_knows_begins_a_session() -> None:
    made = states()
    take(made, (12, claim()))
    state = ask(made, 12, 10, None)
    assert state is not None
    assert state.incarnation == 12


def test_a_clean_claim_of_another_edge_has_ended_what_the_rows_show() -> None:
    made = states()
    ended = claim(clean=True)
    take(made, (10, ended), (11, Detach(client_id="c", epoch=10, will=False)), (12, claim()))
    state = ask(made, 12, 10, row(5, 3, "b"))
    assert state is not None
    assert (state.incarnation, state.subscriptions) == (10, ())


def test_rows_that_are_ahead_say_the_same() -> None:
    made = states()
    take(made, (12, claim()))
    made.reflected({0: 20})
    state = ask(made, 12, 20, row(12, 3, "b"))
    assert state is not None
    assert state.incarnation == 3


def test_rows_with_a_newer_claim_or_none_say_that_it_is_somebody_elses() -> None:
    made = states()
    take(made, (12, claim()))
    assert ask(made, 12, 20, row(15, 3)) is None
    assert ask(made, 12, 20, row(12, 3, attached=False)) is None
    assert ask(made, 12, 20, None) is None


def test_rows_of_a_standby_that_lacks_commits_are_not_used() -> None:
    made = states()
    take(made, (12, subs(5, "a")), (14, claim()))
    made.reflected({0: 14})
    told: list[SessionState | None] = []
    made.ask(0, "c", 14, told.append)
    for told_so_far in ([], [None]):
        assert made.take_reads() == {0: ["c"]}
        made.rows(0, ["c"], KeptRows(Mark(11, 11), {"c": row(5, 3)}))
        # They may have been read before the newest of them were told of: once more.
        assert told == told_so_far
    made.reflected({0: 11})
    assert "behind" in made.why_not(0)
    assert made.behind == [0]
    made.reflected({0: 15})
    assert not made.why_not(0)
    assert made.behind == []


def test_an_overlay_over_its_bound_is_dropped_until_the_worker_has_caught_up() -> None:
    made = states(size_max=5_000)
    take(made, *((10 + number, claim("other")) for number in range(100)))
    assert made.size < 5_000
    assert "behind" in made.why_not(0)
    take(made, (110, claim()))
    assert ask(made, 110, 10, row(5, 3)) is None
    made.reflected({0: 110})
    assert not made.why_not(0)
    assert ask(made, 110, 110, row(5, 3)) is not None


def test_while_the_database_is_down_nobody_waits() -> None:
    made = states()
    told: list[SessionState | None] = []
    made.ask(0, "c", 12, told.append)
    made.take_reads()
    made.ask(0, "c", 13, told.append)
    made.give_up()
    assert told == [None, None]
    assert "does not answer" in made.why_not(0)


def test_one_read_of_a_partition_at_a_time_takes_all_who_came_meanwhile() -> None:
    made = states()
    told: list[SessionState | None] = []
    made.ask(0, "a", 12, told.append)
    assert made.take_reads() == {0: ["a"]}
    made.ask(0, "b", 13, told.append)
    made.ask(0, "c", 14, told.append)
    assert made.take_reads() == {}
    made.rows(0, ["a"], KeptRows(Mark(10, 10), {}))
    assert made.take_reads() == {0: ["b", "c"]}


def test_rows_of_a_read_that_was_given_up_on_answer_nobody_else() -> None:
    made = states()
    known: list[SessionState | None] = []
    made.ask(0, "gone", 11, known.append)
    made.take_reads()
    made.give_up()
    made.is_down = False
    assert known == [None]
    made.ask(0, "c", 11, known.append)
    made.take_reads()
    made.rows(0, ["gone"], KeptRows(Mark(10, 10), {}))
    assert len(known) == 1
    assert made.take_reads() == {0: ["c"]}
