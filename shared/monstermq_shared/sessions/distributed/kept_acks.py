"""What a kept session's client has acknowledged, until the log has it (E9)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Acks = dict[int, tuple[list[int], list[int]]]
"""Partition -> offsets that the client has acknowledged, and packet ids that PUBREL is due for once
the log has them."""


@dataclass(frozen=True, slots=True, eq=False)
class Acking:
    """An ack fact that is on its way to the log.

    Attributes:
        partition: Of the log of messages.
        offsets: What it acknowledges there.
    """

    partition: int
    offsets: Sequence[int]


def acks_by_partition(
    positions: Iterable[int], received: Iterable[tuple[int, int]], partitions: int
) -> Acks:
    """Return acknowledgements by partition.

    Args:
        positions: Of what needs no more than that, each offset x partitions + partition.
        received: The same of what PUBREL is due for, each with its packet id.
        partitions: Of the log of messages.
    """
    acks: Acks = {}
    for at in positions:
        offset, partition = divmod(at, partitions)
        if partition in acks:
            acks[partition][0].append(offset)
        else:
            acks[partition] = ([offset], [])
    for at, packet_id in received:
        offset, partition = divmod(at, partitions)
        offsets, packet_ids = acks.setdefault(partition, ([], []))
        offsets.append(offset)
        packet_ids.append(packet_id)
    return acks
