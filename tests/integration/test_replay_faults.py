"""``tail`` and ``replay`` with large records, over TLS, and with a Kafka or a target that fails."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.support.broker import LOOPBACK, RunningBroker, RunningMosquitto, free_ports
from tests.support.certificates import CertificateAuthority
from tests.support.kafka import KafkaServer
from tests.support.log_tools import Log, Target, opened_log, said, told
from tests.support.troubles import before_first

from monstermq.replaying import _Run
from monstermq_shared.exit_codes import ExitCode

pytestmark = pytest.mark.integration

LARGE = 10_000_000
SIZE_MAX_KB = 12_288


class Secured:
    """A broker that takes large messages, and TLS.

    Attributes:
        target: It.
        port: Of TLS.
        authority: Has signed its certificate.
        config: What it was started with.
    """

    def __init__(self, folder: Path) -> None:
        process = RunningBroker(folder)
        self.authority = CertificateAuthority(folder)
        server = self.authority.issue("server")
        (self.port,) = free_ports(1)
        self.config = f"""
        MaxMessageSizeKb: {SIZE_MAX_KB}
        TCPS: {self.port}
        TLS: {{CertFile: {server.cert_file}, KeyFile: {server.key_file}}}
        ArchiveGroups:
          - {{Name: All, TopicFilter: ["#"], LastValType: NONE, ArchiveType: SQLITE}}
        """
        self.target = Target(process)

    def url(self, host: str = "localhost") -> str:
        return f"mqtts://{host}:{self.port}"


class SuspiciousMosquitto(RunningMosquitto):
    """Lets nobody in who has no name."""

    def _prepare(self, config_yaml: str | None) -> list[str]:
        command = super()._prepare(config_yaml)
        path = self.directory / "mosquitto.conf"
        path.write_text(path.read_text().replace("allow_anonymous true", "allow_anonymous false"))
        return command


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    found = Secured(tmp_path)
    found.target.process.start(found.config)
    yield found
    found.target.process.close()


@pytest.fixture
async def log(kafka_server: KafkaServer, kafka_topic: str, tmp_path: Path) -> AsyncIterator[Log]:
    """A log that takes large messages."""
    log = await opened_log(tmp_path / "log.yaml", kafka_server.address(), kafka_topic, SIZE_MAX_KB)
    yield log
    await log.bus.close()


async def test_large_records_are_shown_and_sent_by_tls_to_whom_is_trusted(
    log: Log, secured: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [log.message(f"large/{n}", bytes([97 + n]) * LARGE, n) for n in range(2)]
    await log.append(*records)
    lines = await log.tail("--from", "beginning")
    assert said(lines) == told(records)
    command = ("replay", "#", "--from", "beginning", "--archive-again", "--as-fast-as-possible")
    code, sentence = await log.refusal(*command, "--into", secured.url())
    assert (code, "its certificate is not trusted" in sentence) == (ExitCode.FAILURE, True)
    monkeypatch.setenv("SSL_CERT_FILE", str(secured.authority.cert_file))
    code, sentence = await log.refusal(*command, "--into", secured.url("127.1"))
    assert "its certificate is not trusted" in sentence
    assert "127.1" in sentence
    plain = f"mqtts://localhost:{secured.target.process.tcp_port}"
    code, sentence = await log.refusal(*command, "--into", plain)
    assert (code, "does it speak TLS at this port?" in sentence) == (ExitCode.FAILURE, True)
    assert (await log.run(*command, "--into", secured.url()))[0] == ExitCode.OK
    assert said(await secured.target.archived("large/#")) == told(records)


async def test_a_target_that_lets_nobody_in_or_does_not_come_back_is_told(
    log: Log,
    secured: Secured,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    records = await log.fill(2_000)
    folder = tmp_path / "suspicious"
    folder.mkdir()
    suspicious = SuspiciousMosquitto(folder)
    suspicious.start()
    command = ["replay", "#", "--from", "beginning", "--as-fast-as-possible", "--patience", "1"]
    try:
        into = f"mqtt://{LOOPBACK}:{suspicious.tcp_port}"
        code, sentence = await log.refusal(*command, "--into", into)
        assert (code, "refuses us: we may not" in sentence) == (ExitCode.FAILURE, True)
    finally:
        suspicious.close()

    async def dies() -> None:
        secured.target.process.kill()

    command += ["--into", secured.target.url, "--archive-again"]
    with monkeypatch.context() as patched:
        before_first(patched, _Run, "_send_all", dies)
        code, sentence = await log.refusal(*command)
    assert (code, "cannot be reached" in sentence) == (ExitCode.FAILURE, True)
    noted = capsys.readouterr().err
    assert "it is tried again for 1 s" in noted
    assert f"0 of {len(records)} messages have arrived; the same command with" in noted
    secured.target.process.start(secured.config)
    assert (await log.run(*command))[0] == ExitCode.OK
    assert sorted(said(await secured.target.archived())) == sorted(told(records))


async def test_a_kafka_that_is_killed_between_looking_and_sending_is_waited_for(
    own_kafka: KafkaServer,
    kafka_topic: str,
    secured: Secured,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = await opened_log(tmp_path / "own.yaml", own_kafka.address(), kafka_topic)
    records = await log.fill(200)

    async def dies() -> None:
        own_kafka.kill()
        asyncio.get_running_loop().run_in_executor(None, own_kafka.start)

    before_first(monkeypatch, _Run, "_send_all", dies)
    command = ("replay", "#", "--from", "beginning", "--into", secured.target.url, "--json")
    code, lines = await log.run(*command, "--as-fast-as-possible", "--archive-again")
    assert (code, json.loads(lines[-1])["sent"]) == (ExitCode.OK, len(records))
    assert sorted(said(await secured.target.archived())) == sorted(told(records))
    await log.bus.close()
