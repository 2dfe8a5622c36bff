"""The projector's metrics, read when a scrape asks. ``docs/operation.md`` lists every name."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from monstermq_projector.following import Following
from monstermq_projector.lags import Lags
from monstermq_projector.queues import QueueDesk
from monstermq_projector.retention import Retention
from monstermq_projector.sessions_appends import AppendCounts
from monstermq_projector.sessions_wills import WillCounts
from monstermq_projector.sessions_work import SessionsCounts
from monstermq_shared.operation.metrics import build_info, counted, registry_with
from monstermq_shared.sessions.distributed.queues.fold import QueueCounts
from monstermq_shared.views.log_fold import FoldCounts
from monstermq_shared.views.log_follower import Phase
from monstermq_shared.views.log_lanes import CommitCounts
from monstermq_shared.views.log_work import GapCounts


@dataclass(slots=True, kw_only=True)
class Measures:
    """What is counted and seen.

    Attributes:
        folds: What was met in the log.
        commits: What was committed.
        gaps: What was missing.
        wills: Which were published.
        appends: What was appended beside them because of the sessions log.
        sessions: What came of sessions.
        queues: What was matched; None in a part that has no queues.
        retention: What is deleted; None in a part that has nothing to delete.
        lags: How far the rows are behind.
    """

    folds: FoldCounts = field(default_factory=FoldCounts)
    commits: CommitCounts = field(default_factory=CommitCounts)
    gaps: GapCounts = field(default_factory=GapCounts)
    wills: WillCounts = field(default_factory=WillCounts)
    appends: AppendCounts = field(default_factory=AppendCounts)
    sessions: SessionsCounts = field(default_factory=SessionsCounts)
    queues: QueueDesk | None = None
    retention: Retention | None = None
    lags: Lags = field(default_factory=Lags)


def _of_queues(measures: Measures) -> QueueCounts:
    return QueueCounts() if measures.queues is None else measures.queues.counts


_COUNTERS: tuple[tuple[str, str, Callable[[Measures], float]], ...] = (
    ("records_read", "Records read of the log.", lambda m: m.folds.records),
    ("records_doubled", "Records that had been there before.", lambda m: m.folds.doubles),
    ("records_fenced", "Records of dead connections that came late.", lambda m: m.folds.fenced),
    ("records_quarantined", "What is no record of ours.", lambda m: m.folds.quarantined),
    ("commits", "Transactions that succeeded.", lambda m: m.commits.commits),
    ("commit_failures", "Those that failed and were repeated.", lambda m: m.commits.failures),
    ("rows_written", "Rows inserted, replaced or deleted.", lambda m: m.commits.rows),
    ("rows_purged", "Rows deleted by retention.", lambda m: m.retention.rows if m.retention else 0),
    ("log_gaps", "Times retention had overtaken a partition.", lambda m: m.gaps.gaps),
    ("log_records_missed", "Records that may be missing so.", lambda m: m.gaps.missed),
    ("wills_published", "Wills of connections that ended.", lambda m: m.wills.wills),
    ("wills_lost", "Wills that the log refused.", lambda m: m.wills.wills_lost),
    ("clients_detached", "Clients of silent edges.", lambda m: m.sessions.claims.detached),
    ("session_facts_invalid", "Facts that came too late.", lambda m: m.sessions.claims.invalid),
    ("sessions_expired", "Sessions nobody came back to.", lambda m: m.sessions.claims.expired),
    ("session_markers_swept", "Markers of ended sessions.", lambda m: m.sessions.claims.swept),
    ("sessions_marked_again", "Those a gap concerned.", lambda m: m.sessions.claims.marked),
    ("session_facts_refused", "Facts to append again.", lambda m: m.appends.refused),
    ("session_facts_lost", "Facts the log refused for good.", lambda m: m.appends.lost),
    ("queue_messages_dropped", "Messages over Queue's limits.", lambda m: m.sessions.dropped),
    ("deliveries_matched", "Deliveries at QoS 1 and 2.", lambda m: _of_queues(m).matched),
    (
        "deliveries_acknowledged",
        "Those acknowledged before they became rows.",
        lambda m: _of_queues(m).acknowledged,
    ),
    ("payloads_swept", "Payloads nobody needs.", lambda m: m.queues.swept if m.queues else 0),
    ("log_rereads", "Times a part of the log was read again.", lambda m: m.gaps.reread),
)


class ProjectorCollector(Collector):
    """Reads everything when it is asked to."""

    def __init__(self, measures: Measures, following: Following, version: str) -> None:
        self._measures = measures
        self._following = following
        self._version = version

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registering reads nothing."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family with its present value."""
        yield build_info(self._version)
        yield from counted(_COUNTERS, self._measures)
        yield CounterMetricFamily(
            "monstermq_assignments",
            "Times partitions were assigned.",
            value=self._following.assignments,
        )
        yield self._partitions()
        yield from self._lags()

    def _partitions(self) -> Metric:
        family = GaugeMetricFamily(
            "monstermq_partitions", "Partitions that are ours, by what they do.", labels=["phase"]
        )
        phases = [follower.phase for follower in self._following.followers.values()]
        for phase in Phase:
            family.add_metric([phase.name.lower()], phases.count(phase))
        return family

    def _lags(self) -> Iterator[Metric]:
        records = GaugeMetricFamily(
            "monstermq_projection_lag_records",
            "Records a projection has not committed, in the partitions that are ours.",
            labels=["projection"],
        )
        seconds = GaugeMetricFamily(
            "monstermq_projection_lag_seconds",
            "Age of the oldest of them.",
            labels=["projection"],
        )
        for name, count in self._measures.lags.records.items():
            records.add_metric([name], count)
        for name, age_s in self._measures.lags.seconds.items():
            seconds.add_metric([name], age_s)
        yield from (records, seconds)


def registry_of(measures: Measures, following: Following, version: str) -> CollectorRegistry:
    """Return a registry with our metrics, the process's and the garbage collector's."""
    return registry_with(ProjectorCollector(measures, following, version))
