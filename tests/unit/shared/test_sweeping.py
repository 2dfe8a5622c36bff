"""Where a sweep looks for payloads that nobody needs."""

from monstermq_shared.stores.sweeping import BLOCK, BLOCKS_MAX, Sweeping


def begun() -> Sweeping:
    """Return one that has looked at everything."""
    sweeping = Sweeping()
    assert sweeping.take_all() == 0
    return sweeping


def test_a_new_one_has_to_look_at_everything() -> None:
    sweeping = begun()
    assert sweeping.take_all() is None
    assert sweeping.take(2**62) == []


def test_what_was_not_looked_at_is_given_back() -> None:
    sweeping = begun()
    sweeping.give_all(500)
    sweeping.give_all(700)
    assert sweeping.take_all() == 500


def test_offsets_are_remembered_as_stretches_up_to_the_bound() -> None:
    sweeping = begun()
    sweeping.add([3, 4, BLOCK, 5 * BLOCK + 1, 5 * BLOCK])
    assert sweeping.take(5 * BLOCK + 9) == [(0, 2 * BLOCK), (5 * BLOCK, 5 * BLOCK + 9)]
    # What may be above the bound comes again, the rest does not.
    assert sweeping.take(2**62) == [(5 * BLOCK, 6 * BLOCK)]
    assert sweeping.take(2**62) == []


def test_nothing_above_the_bound_is_looked_at() -> None:
    sweeping = begun()
    sweeping.add([BLOCK])
    assert sweeping.take(BLOCK) == []
    assert sweeping.take(BLOCK + 1) == [(BLOCK, BLOCK + 1)]


def test_a_stretch_is_all_of_its_blocks() -> None:
    sweeping = begun()
    sweeping.add_stretch(BLOCK - 1, BLOCK + 1)
    assert sweeping.take(2**62) == [(0, 2 * BLOCK)]
    sweeping.add_stretch(BLOCK, 2 * BLOCK)
    assert sweeping.take(2**62) == [(BLOCK, 2 * BLOCK)]


def test_what_is_too_much_to_remember_is_all() -> None:
    sweeping = begun()
    sweeping.add(block * 2 * BLOCK for block in range(BLOCKS_MAX))
    assert sweeping.take_all() is None
    sweeping.add([BLOCK])
    assert sweeping.take_all() == 0
    assert sweeping.take(2**62) == []
    sweeping.add_stretch(0, (BLOCKS_MAX + 1) * BLOCK)
    assert sweeping.take_all() == 0
