"""What is counted and held arrives at Prometheus under documented names, and nothing is missing."""

import inspect
import re
from collections.abc import Callable, Iterable
from enum import IntEnum
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from tests.support.attributes import attributes_of
from tests.support.form import pure_only
from tests.support.operation import LABELS, OF_EDGE, OF_HOST, settable_gauges

from monstermq_edge.ingress.counts import IngressCollector, IngressCounts
from monstermq_edge.operation.metrics import build_registry
from monstermq_mcp.counts import Counts
from monstermq_mcp.metrics import CountsCollector
from monstermq_projector.measures import Measures, registry_of
from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.counters import PACKET_TYPES, Counters, DropReason, Refusal

DOCUMENT = Path(__file__).parents[3] / "docs" / "operation.md"
PUBLISH = PACKET_TYPES.index("publish")


def samples(registry: CollectorRegistry) -> dict[str, float]:
    """Return our own samples, by name and labels as they stand in the text."""
    lines = generate_latest(registry).decode().splitlines()
    ours = (line.rpartition(" ") for line in lines if line.startswith("monstermq_"))
    return {name: float(value) for name, _, value in ours}


@pytest.mark.parametrize("name", attributes_of(Counters()))
def test_every_counter_is_a_metric(name: str) -> None:
    counters, (gauges, _) = Counters(), settable_gauges()
    registry = build_registry(counters, gauges, version="1.2.3")
    before = samples(registry)
    value = getattr(counters, name)
    if isinstance(value, list):
        value[1] += 7
    else:
        setattr(counters, name, 7)
    after = samples(registry)
    moved = {key: after[key] - before[key] for key in after if after[key] != before[key]}
    assert moved
    assert set(moved.values()) == {7}


# process_resident_memory_bytes has the memory already.
@pytest.mark.parametrize("name", [name for name in OF_HOST + OF_EDGE if name != "resident_bytes"])
def test_every_gauge_is_a_metric(name: str) -> None:
    gauges, present = settable_gauges()
    registry = build_registry(Counters(), gauges, version="1.2.3")
    label = LABELS.get(name)
    present[name] = {"retained": 7} if label else 7
    moved = [key for key, value in samples(registry).items() if value == 7]
    metric = "monstermq_" + re.sub("_s$", "_seconds", name)
    if name == "tap_dropped":  # a counter that the bus keeps
        metric += "_total"
    assert moved == [f'{metric}{{{label}="retained"}}' if label else metric]


def test_reasons_are_labels() -> None:
    counters, (gauges, _) = Counters(), settable_gauges()
    counters.dropped[DropReason.OUTBOX_FULL_QOS0] += 1
    counters.connections_refused[Refusal.TAKEOVER_RATE] += 2
    counters.disconnects[CloseReason.CLIENT_DISCONNECTED] += 3
    found = samples(build_registry(counters, gauges, version="1.2.3"))
    assert found['monstermq_messages_dropped_total{reason="outbox_full_qos0"}'] == 1
    assert found['monstermq_connections_refused_total{reason="takeover_rate"}'] == 2
    assert found['monstermq_disconnects_total{reason="client_disconnected"}'] == 3


@pytest.mark.parametrize(
    ("metric", "reasons"),
    [
        ("messages_dropped", DropReason),
        ("connections_refused", Refusal),
        ("disconnects", CloseReason),
    ],
)
def test_every_reason_is_there_before_it_first_happens(metric: str, reasons: type[IntEnum]) -> None:
    gauges, _ = settable_gauges()
    found = samples(build_registry(Counters(), gauges, version="1.2.3"))
    names = {f'monstermq_{metric}_total{{reason="{reason.name.lower()}"}}' for reason in reasons}
    assert {name for name in found if name.startswith(f"monstermq_{metric}_total")} == names


def test_publish_stands_among_the_packet_types() -> None:
    counters, (gauges, _) = Counters(), settable_gauges()
    counters.publish_received[:] = [1, 2, 4]
    counters.publish_sent[:] = [8, 16, 32]
    found = samples(build_registry(counters, gauges, version="1.2.3"))
    assert found['monstermq_packets_received_total{type="publish"}'] == 7
    assert found['monstermq_packets_sent_total{type="publish"}'] == 56
    assert found['monstermq_publish_received_total{qos="2"}'] == 4
    assert counters.packets_received[PUBLISH] == 0


def test_packets_of_all_types_add_up_to_messages() -> None:
    counters = Counters()
    counters.publish_received[:] = [1, 2, 4]
    counters.packets_received[1] += 8
    counters.publish_sent[:] = [16, 32, 64]
    counters.packets_sent[2] += 128
    assert counters.messages_received == 15
    assert counters.messages_sent == 240


@pure_only
def test_every_counter_has_its_sentence() -> None:
    sentences = inspect.cleandoc(Counters.__doc__ or "")  # Python 3.13 removes the indentation
    described = re.findall(r"^    (\w+): \S", sentences, re.MULTILINE)
    assert sorted(described) == sorted(attributes_of(Counters()))


def test_process_and_version_are_shown_from_a_registry_of_its_own() -> None:
    gauges, _ = settable_gauges()
    text = generate_latest(build_registry(Counters(), gauges, version="1.2.3")).decode()
    assert 'monstermq_build_info{version="1.2.3"} 1.0' in text
    assert "process_resident_memory_bytes" in text
    assert "process_start_time_seconds" in text
    assert "python_gc_collections_total" in text
    assert "monstermq_" not in generate_latest(REGISTRY).decode()


def test_registering_reads_no_gauge() -> None:
    gauges, present = settable_gauges()
    present.clear()  # from now on every reading fails
    build_registry(Counters(), gauges, version="1.2.3")


@pytest.mark.parametrize(
    ("accept", "parse"),
    [("text/plain", text_string_to_metric_families), ("application/openmetrics-text", openmetrics)],
)
def test_both_formats_parse(accept: str, parse: Callable[[str], Iterable[Metric]]) -> None:
    gauges, present = settable_gauges()
    present["projection_lag_s"] = {'na"me\n': 1.5}
    encode, _ = choose_encoder(accept)
    text = encode(build_registry(Counters(), gauges, version="1.2.3")).decode()
    families = {family.name: family for family in parse(text)}
    assert "monstermq_messages_dropped" in families
    [lag] = families["monstermq_projection_lag_seconds"].samples
    assert (lag.labels, lag.value) == ({"projection": 'na"me\n'}, 1.5)


class ProjectorFollowing:
    """A projector without partitions."""

    assignments = 0
    followers: dict[int, object] = {}  # noqa: RUF012 - nobody changes it


def test_the_document_names_every_metric_and_no_other() -> None:
    gauges, present = settable_gauges()
    for name in LABELS:
        present[name] = {"retained": 0}
    registry = build_registry(Counters(), gauges, version="1.2.3")
    # What a projector, a supervisor, the MCP server and the ingress expose is in the same document.
    others = registry_of(Measures(), ProjectorFollowing(), "1.2.3")  # type: ignore[arg-type]
    registry.register(CountsCollector(Counts()))
    registry.register(IngressCollector([IngressCounts(topic="a")]))
    exposed = {name.partition("{")[0] for name in [*samples(registry), *samples(others)]}
    exposed |= {"monstermq_process_starts_total"}
    documented = set(re.findall(r"`(monstermq_\w+)", DOCUMENT.read_text(encoding="utf-8")))
    assert documented == exposed


def test_the_document_names_every_reason() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for reason in [*DropReason, *Refusal, *CloseReason]:
        assert f"`{reason.name.lower()}`" in text
