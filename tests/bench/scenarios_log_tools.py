"""Rows about the operator's tools on a long log: tail, rebuild, verify, and replay into a broker.

What is measured is the whole command, with its start and its end, beside the servers that it
reads from and writes to.
"""

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from tests.bench.brokers import Running
from tests.bench.commands import Spent, run_command
from tests.bench.kafka_places import KafkaPlace, kafka_place
from tests.bench.kafka_writer import bus_writer
from tests.bench.model import Bound, Component, Effort, Metric, Outcome, Scenario
from tests.support.postgres import PostgresServer
from tests.support.projectors import Setting

from monstermq_shared.config import StoreType
from monstermq_shared.messages import MessageRun
from monstermq_shared.stores.registry import open_database
from monstermq_shared.views.catalogue import Catalogue

PAYLOAD_SIZE = 64
RUN = 20
"""Messages of one topic that follow each other."""

TOPICS = 1_000
REPLAYED_SHARE = 5
"""A replay has this part of the log."""

GROUP = {"Name": "MCP", "TopicFilter": ["#"], "ArchiveType": "POSTGRES"}
TABLE = "archive:MCP"
MICROSECONDS = 1_000_000


def _runs(count: int) -> Iterator[MessageRun]:
    payloads = [b'{"value": %d.5, "unit": "C"}'.ljust(PAYLOAD_SIZE) % n for n in range(10, 30)]
    for number in range(count // RUN):
        topic = b"plant/line%02d/sensor%03d" % (number % 50, number % TOPICS)
        yield MessageRun.of(topic, payloads, 1)


async def _fill(place: KafkaPlace, count: int) -> None:
    async with bus_writer(place) as writer:
        await writer.write(_runs(count))


# -- tail, rebuild, verify -------------------------------------------------------------------------


def run_log_tools(effort: Effort) -> Outcome:
    """Fill a log, write all of it to a file, make an archive of it, and compare that with it."""
    count = effort.log_records
    with (
        kafka_place() as place,
        closing(PostgresServer()) as server,
        TemporaryDirectory(prefix="bench-log-tools-") as name,
    ):
        folder = Path(name)
        url = server.start().url(server.create_database())
        more = {**place.bus, "ArchiveGroups": [GROUP]}
        setting = Setting(folder, place.address, url, topic=place.topic, more=more)
        asyncio.run(_fill(place, count))
        asyncio.run(_make_tables(setting))
        tools = _Tools(setting, server, count)
        tools.tail()
        # What the bus has written to try its topic is a record, too.
        tools.fold("rebuild", "records", asyncio.run(place.records()))
        tools.fold("verify", "compared", count)
    return Outcome(figures=tools.figures, problems=tools.problems)


async def _make_tables(setting: Setting) -> None:
    """Leave them empty: a projector makes them."""
    needed = Catalogue(setting.config).needed(StoreType.POSTGRES)
    database = await open_database(StoreType.POSTGRES, setting.config, needed)
    await database.close()


class _Tools:
    """Runs one after the other."""

    def __init__(self, setting: Setting, server: PostgresServer, count: int) -> None:
        self.figures: dict[str, float] = {}
        self.problems: list[str] = []
        self._setting = setting
        self._server = server
        self._count = count

    def tail(self) -> None:
        """Write every record to a file."""
        output = self._setting.folder / "tail"
        since = ["#", "--from", "beginning", "--to", "now", "--json"]
        spent = run_command(["tail", *since, *self._configured], output)
        self._note("tail", spent)
        self.figures["tail-growth"] = spent.growth_mib
        with output.open("rb") as lines:
            self._expect("lines of tail", sum(1 for _ in lines), self._count)
        output.unlink()

    def fold(self, name: str, member: str, expected: int) -> None:
        """Fold the log; what the tool tells of it has a member with how many records it had."""
        output = self._setting.folder / name
        server_s = _whole_s(self._server.pid)
        spent = run_command([name, TABLE, "--json", *self._configured], output)
        server_s = _whole_s(self._server.pid) - server_s
        self._note(name, spent)
        self.figures[f"{name}-postgres"] = server_s / self._count * MICROSECONDS
        self.figures[f"{name}-growth"] = spent.growth_mib
        *_, told = output.read_text(encoding="utf-8").splitlines()
        self._expect(f"{member} of {name}", json.loads(told)[member], expected)

    @property
    def _configured(self) -> list[str]:
        return ["-config", str(self._setting.path)]

    def _note(self, name: str, spent: Spent) -> None:
        self.figures[name] = self._count / spent.elapsed_s
        self.figures[f"{name}-cost"] = spent.processor_s / self._count * MICROSECONDS

    def _expect(self, what: str, found: int, expected: int) -> None:
        if found != expected:
            self.problems.append(f"{found} {what}, {expected} expected")


def _whole_s(pid: int) -> float:
    """What a process, its children and those that have ended have computed."""
    process = psutil.Process(pid)
    spent = [process.cpu_times(), *(child.cpu_times() for child in process.children())]
    ended = spent[0].children_user + spent[0].children_system
    return ended + sum(one.user + one.system for one in spent)


# -- replay ----------------------------------------------------------------------------------------


def run_replay(running: Running, effort: Effort) -> Outcome:
    """Send what stands in a log to a broker that has nothing to do with it."""
    count = effort.log_records // REPLAYED_SHARE
    figures: dict[str, float] = {}
    problems = []
    with kafka_place() as place, TemporaryDirectory(prefix="bench-replay-") as name:
        nowhere = "postgresql://nobody@127.0.0.1:1/none"
        setting = Setting(Path(name), place.address, nowhere, topic=place.topic, more=place.bus)
        asyncio.run(_fill(place, count))
        for qos in (0, 1):
            told = _replay(running, setting, qos, figures)
            if told != count:
                problems.append(f"{told} sent with QoS {qos}, {count} expected")
    return Outcome(figures=figures, problems=problems)


def _replay(running: Running, setting: Setting, qos: int, figures: dict[str, float]) -> int:
    """Send all, and note how fast that was; how many those were."""
    what = ["replay", "#", "--from", "beginning", "--as-fast-as-possible", "--qos", str(qos)]
    into = ["--into", f"mqtt://127.0.0.1:{running.port}", "-config", str(setting.path), "--json"]
    broker_s, output = running.processor_s(), setting.folder / "replay"
    spent = run_command([*what, *into], output)
    broker_s = running.processor_s() - broker_s
    *_, told = map(json.loads, output.read_text(encoding="utf-8").splitlines())
    count = int(told["sent"])
    figures[f"qos{qos}"] = count / told["seconds"]
    figures[f"qos{qos}-whole"] = count / spent.elapsed_s
    figures[f"qos{qos}-cost"] = spent.processor_s / count * MICROSECONDS
    figures[f"qos{qos}-broker"] = broker_s / count * MICROSECONDS
    return count


def _replaying(qos: int) -> tuple[Metric, ...]:
    name = f"qos{qos}"
    return (
        Metric(
            name=name,
            title=f"replay as fast as possible, QoS {qos}",
            unit="msg/s",
            required=Bound(20_000),
            aim=Bound(60_000),
        ),
        Metric(name=f"{name}-whole", title="with the look at what there is before", unit="msg/s"),
        _cost(f"{name}-cost", "its processor time per message"),
        _cost(f"{name}-broker", "the broker's processor time per message"),
    )


def _rate(name: str, title: str, bounds: tuple[float, float]) -> Metric:
    required, aim = map(Bound, bounds)
    return Metric(name=name, title=title, unit="records/s", required=required, aim=aim)


def _cost(name: str, title: str) -> Metric:
    return Metric(name=name, title=title, unit="µs", smaller_is_better=True)


def _growth(name: str) -> Metric:
    return Metric(
        name=f"{name}-growth",
        title="its memory: the most, less the most in the first fifth of the time",
        unit="MiB",
        smaller_is_better=True,
        required=Bound(50),
    )


def _folding(name: str, title: str) -> tuple[Metric, ...]:
    return (
        _rate(name, title, (30_000, 80_000)),
        _growth(name),
        _cost(f"{name}-cost", "its processor time per record"),
        _cost(f"{name}-postgres", "PostgreSQL's processor time per record"),
    )


SCENARIOS = (
    Component(
        name="log-tools",
        metrics=(
            _rate("tail", "tail --json of 5 million records to a file", (60_000, 150_000)),
            _growth("tail"),
            _cost("tail-cost", "its processor time per record"),
            *_folding("rebuild", "rebuild of an archive in PostgreSQL, 5 million records"),
            *_folding("verify", "verify of the same archive"),
        ),
        run=run_log_tools,
        configuration="payloads of 64 bytes, 12 partitions; Kafka and PostgreSQL beside it",
        once=True,
    ),
    Scenario(
        name="replay",
        metrics=(*_replaying(0), *_replaying(1)),
        run=run_replay,
        configuration="1 million records of a Kafka bus, to a broker of its own; routing",
        once=True,
    ),
)
