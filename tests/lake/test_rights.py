"""Who reads the bus with the rights of the document can read it, and do nothing else."""

import subprocess

import pytest
from tests.lake.filled_bus import FilledBus
from tests.lake.rights import LOGIN
from tests.support.kafka import KafkaServer
from tests.support.kafka_security import PASSWORD
from tests.support.machine import program

BOUND_S = 60.0
REFUSED = "authorization failed"


def kcat(server: KafkaServer, *arguments: str, given: str = "") -> tuple[int, list[str]]:
    """Run kcat as the reader; return its exit status and the lines that it says."""
    login = {
        "security.protocol": LOGIN,
        "sasl.mechanisms": "PLAIN",
        "sasl.username": "analyst",
        "sasl.password": PASSWORD,
    }
    options = [word for name, value in login.items() for word in ("-X", f"{name}={value}")]
    done = subprocess.run(
        [program("kcat"), "-b", server.address(LOGIN), *options, *arguments],
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    return done.returncode, done.stdout.split("\n")


@pytest.mark.parametrize("how", [["-t"], ["-G", "analyst.one"]], ids=["partitions", "group"])
def test_a_reader_reads_all_of_the_bus(
    bus: FilledBus, kafka_server: KafkaServer, how: list[str]
) -> None:
    beginning = ["-o", "beginning"] if how == ["-t"] else ["-X", "auto.offset.reset=earliest"]
    status, said = kcat(kafka_server, "-C", "-e", "-q", *beginning, *how, bus.topic)
    assert status == 0
    values = {record.value.decode() for record in bus.records}
    assert set(filter(None, said)) == values


def test_what_a_reader_writes_is_refused(bus: FilledBus, kafka_server: KafkaServer) -> None:
    status, said = kcat(kafka_server, "-P", "-t", bus.topic, given="forged\n")
    assert status != 0
    assert any(REFUSED in line for line in said), said


@pytest.mark.parametrize("where", [["-t", "{}-sessions"], ["-G", "monstermq.one", "{}"]])
def test_sessions_and_the_groups_of_projectors_are_refused(
    bus: FilledBus, kafka_server: KafkaServer, where: list[str]
) -> None:
    of = [word.format(bus.topic) for word in where]
    status, said = kcat(kafka_server, "-C", "-e", *of)
    assert status != 0
    assert any(REFUSED in line for line in said), said
