"""The faults and loads under which kept sessions are tried, by name.

Every configuration stresses some rules of the protocol and leaves others alone, so that what is
wrong is found in few seeds. Rates are weights: a step is taken the more often the more its weight
is among those of all steps that are possible.
"""

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

Changes: TypeAlias = dict[str, Any]

_QOS_1 = (1,)
_QOS_2 = (2,)
_BOTH = (1, 2)
_MIXED = (1, 2, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What happens in one simulation.

    Attributes:
        partitions: Of the bus; None: one, two or three, as the seed has it.
        subscribers: Clients that subscribe, and publish nothing.
        publishers: Clients that publish, and do not subscribe.
        two_devices: Two clients have the same client id, and know nothing of each other.
        topics: How many there are; their partitions follow each other.
        messages: How many are published.
        publish_qos: The QoS of them, to choose from.
        subscribe_qos: The same of subscriptions.
        subscribe_rate: Of SUBSCRIBEs and UNSUBSCRIBEs after the first one of a session; at 0
            everybody subscribes to everything.
        faults: How many there are in all.
        steps: How many steps, until everything is let settle.
        buffer: Messages that an edge keeps for a session.
        acknowledge_rate: Of acknowledgements by subscribers.
        clean_start: The share of CONNECTs that begin a new kept session.
        clean: The share of CONNECTs that end a kept session, and are not kept.
        wills: The share of CONNECTs with a will.
        drop_rate: Of connections that end, or are taken over.
        land_rate: Of appends that reach the log.
        lagging: The appends of some edges land very late.
        late_releases: Releases of dead edges land last of all, and nothing of them is lost.
        doubled: Some appends land twice.
        refused: The share of appends that are refused and made again.
        too_old: The share of appends that are refused for ever.
        edge_crash_rate: Of edges that die.
        pause_rate: Of edges that stand still beyond their lease, and go on.
        without_transactions: The database has none (P8).
        commit_rate: Of commits.
        write_rate: Of the writes of a commit without transaction.
        unanswered: Some COMMITs stay without an answer, applied or not.
        failover_rate: Of standbys that take over and lack commits.
        age_rate: Of window entries that grow older than T (P6).
        worker_crash_rate: Of workers of the bus that die.
        zombies: There may be two workers of one partition.
        zombie_rate: Of second workers that begin.
        gap_rate: Of retention that overtakes a partition (P7).
        sessions_worker: The worker of the sessions log acts, and dies.
        false_expiry_rate: Of leases it takes for ended that are not.
        expiry_rate: Of sessions that expire.
        queue_max: Messages that may wait for a client; 0: any number.
    """

    partitions: int | None = None
    subscribers: int = 2
    publishers: int = 2
    two_devices: bool = False
    topics: int = 3
    messages: int = 12
    publish_qos: tuple[int, ...] = _QOS_1
    subscribe_qos: tuple[int, ...] = _QOS_1
    subscribe_rate: float = 0
    faults: int = 5
    steps: int = 1500
    buffer: int = 4
    acknowledge_rate: float = 1
    clean_start: float = 0
    clean: float = 0
    wills: float = 0
    drop_rate: float = 0.08
    land_rate: float = 4
    lagging: bool = False
    late_releases: bool = False
    doubled: bool = False
    refused: float = 0
    too_old: float = 0
    edge_crash_rate: float = 0.05
    pause_rate: float = 0
    without_transactions: bool = False
    commit_rate: float = 1
    write_rate: float = 3
    unanswered: bool = False
    failover_rate: float = 0
    age_rate: float = 0.3
    worker_crash_rate: float = 0.06
    zombies: bool = False
    zombie_rate: float = 0.03
    gap_rate: float = 0
    sessions_worker: bool = False
    false_expiry_rate: float = 0.02
    expiry_rate: float = 0
    queue_max: int = 0


def _with(**changes: Any) -> Configuration:
    return replace(_ANY_QOS, **changes)


_ANY_QOS = Configuration(publish_qos=_BOTH, subscribe_qos=_BOTH)
_SINGLE: Changes = {"partitions": 1, "publishers": 1}
_ALONE: Changes = {"publishers": 1, "subscribers": 1}
_STRESS: Changes = {**_SINGLE, "messages": 30, "steps": 3000, "edge_crash_rate": 0.02}
_LATE: Changes = {
    "publishers": 1,
    "publish_qos": _BOTH,
    "faults": 25,
    "land_rate": 0.7,
    "edge_crash_rate": 0.12,
    "drop_rate": 0.2,
    "messages": 25,
    "steps": 3000,
}
_SHORT: Changes = {"publishers": 1, "messages": 20, "steps": 2000}
_LONG: Changes = {"publishers": 1, "messages": 25, "steps": 2500}
_ALL: Changes = {
    "publish_qos": _MIXED,
    "subscribe_qos": _MIXED,
    "subscribe_rate": 0.1,
    "clean_start": 0.15,
    "buffer": 3,
    "faults": 12,
    "messages": 20,
    "steps": 2500,
}

CONFIGURATIONS: dict[str, Configuration] = {
    "q1": Configuration(),
    "q1z": Configuration(zombies=True),
    "q2in": Configuration(publish_qos=_QOS_2),
    "q2": _with(publish_qos=_MIXED, subscribe_qos=_MIXED),
    "q2z": _with(publish_qos=(2, 2, 1), subscribe_qos=_QOS_2, zombies=True, faults=8),
    "reuse": _with(**_ALONE, publish_qos=_QOS_2, subscribe_qos=_QOS_2, messages=14, faults=8),
    "subs": _with(subscribe_rate=0.15),
    "slow": _with(buffer=2, messages=20),
    "end": _with(subscribe_rate=0.1, clean_start=0.3, faults=8),
    "devices": _with(two_devices=True, faults=10),
    "notx": _with(without_transactions=True, faults=8),
    "wstress": _with(
        **_STRESS,
        zombies=True,
        faults=40,
        worker_crash_rate=0.3,
        zombie_rate=0.3,
        age_rate=0.08,
        subscribe_rate=0.1,
        commit_rate=3,
    ),
    "wnotx": _with(
        **_STRESS,
        without_transactions=True,
        faults=40,
        worker_crash_rate=0.4,
        age_rate=0.08,
        subscribe_rate=0.1,
        commit_rate=3,
    ),
    "late": _with(**{**_LATE, "publish_qos": (2, 2, 1)}, subscribers=1),
    "latesub": _with(**_LATE, subscribe_rate=0.3, clean_start=0.1),
    "wslow": _with(
        **_STRESS,
        zombies=True,
        faults=60,
        worker_crash_rate=0.15,
        zombie_rate=0.3,
        age_rate=0.15,
        commit_rate=2,
        acknowledge_rate=0.15,
    ),
    "lag": _with(
        **_ALONE,
        partitions=1,
        topics=2,
        publish_qos=(2, 2, 1),
        faults=30,
        lagging=True,
        land_rate=0.3,
        edge_crash_rate=0.04,
        drop_rate=0.25,
        messages=30,
        steps=3500,
    ),
    "nslow": _with(
        **_STRESS,
        subscribers=1,
        publish_qos=_QOS_2,
        subscribe_qos=_QOS_2,
        without_transactions=True,
        faults=40,
        worker_crash_rate=0.2,
        drop_rate=0.2,
        commit_rate=0.3,
        write_rate=0.4,
    ),
    "doubled": _with(
        **_LONG,
        doubled=True,
        refused=0.1,
        faults=20,
        edge_crash_rate=0.08,
        drop_rate=0.15,
        worker_crash_rate=0.15,
        subscribe_rate=0.1,
        clean_start=0.05,
    ),
    "refused": _with(
        **_LONG,
        sessions_worker=True,
        wills=0.2,
        doubled=True,
        refused=0.1,
        too_old=0.01,
        land_rate=2,
        faults=15,
        drop_rate=0.12,
        subscribe_rate=0.1,
        clean_start=0.05,
    ),
    "unknown": _with(
        **_LONG,
        partitions=1,
        unanswered=True,
        zombies=True,
        zombie_rate=0.3,
        worker_crash_rate=0.1,
        faults=30,
    ),
    "failover": _with(
        **_LONG, failover_rate=0.3, faults=20, drop_rate=0.2, commit_rate=2, subscribe_rate=0.05
    ),
    "stream": Configuration(
        partitions=1, buffer=2, commit_rate=0.04, age_rate=0.1, messages=150, faults=2, steps=4000
    ),
    "wills": _with(
        **{**_SHORT, "messages": 15},
        sessions_worker=True,
        wills=0.7,
        faults=20,
        edge_crash_rate=0.1,
        drop_rate=0.15,
    ),
    "lease": _with(
        **{**_LONG, "subscribers": 1},
        topics=2,
        publish_qos=_QOS_2,
        subscribe_qos=_QOS_2,
        sessions_worker=True,
        false_expiry_rate=0.3,
        faults=25,
        drop_rate=0.05,
        edge_crash_rate=0.02,
        acknowledge_rate=0.3,
    ),
    "pause": _with(
        **_LONG,
        sessions_worker=True,
        wills=0.2,
        pause_rate=0.15,
        faults=25,
        land_rate=1,
        edge_crash_rate=0.02,
        drop_rate=0.1,
        acknowledge_rate=0.5,
        subscribe_rate=0.05,
    ),
    "oldrel": _with(
        **_ALONE,
        partitions=1,
        topics=1,
        publish_qos=_QOS_2,
        subscribe_qos=_QOS_1,
        late_releases=True,
        faults=80,
        land_rate=2,
        edge_crash_rate=0.12,
        drop_rate=0.3,
        messages=60,
        steps=4000,
        worker_crash_rate=0.01,
    ),
    "nokeep": _with(
        **_SHORT,
        sessions_worker=True,
        clean=0.3,
        wills=0.2,
        faults=15,
        drop_rate=0.15,
        subscribe_rate=0.05,
    ),
    "expiry": _with(
        **_SHORT,
        sessions_worker=True,
        expiry_rate=0.2,
        clean_start=0.05,
        faults=15,
        drop_rate=0.2,
    ),
    "limit": _with(
        **_ALONE,
        sessions_worker=True,
        queue_max=3,
        faults=15,
        drop_rate=0.2,
        age_rate=1,
        acknowledge_rate=0.2,
        messages=40,
        steps=2500,
        failover_rate=0.05,
        zombies=True,
    ),
    "gap": Configuration(
        **_LONG,
        sessions_worker=True,
        gap_rate=0.05,
        faults=15,
        drop_rate=0.1,
        subscribe_rate=0.1,
        clean_start=0.05,
    ),
    "all": _with(**_ALL, zombies=True),
    "allnotx": _with(**_ALL, without_transactions=True),
    "whole": _with(
        **{**_ALL, "clean_start": 0.05, "faults": 25, "messages": 25, "steps": 3500},
        clean=0.05,
        zombies=True,
        doubled=True,
        refused=0.05,
        too_old=0.002,
        unanswered=True,
        failover_rate=0.05,
        sessions_worker=True,
        wills=0.2,
        expiry_rate=0.05,
        drop_rate=0.12,
    ),
}
"""Those of the model that the protocol was found with, by the names it has there."""
