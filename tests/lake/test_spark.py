"""PySpark's Kafka source, as ``docs/data-lake.md`` shows it."""

from pathlib import Path

from pyarrow import parquet
from tests.lake.document import SERVERS, TOPIC, block
from tests.lake.filled_bus import FilledBus
from tests.lake.rows import expected_of, rows_in
from tests.lake.tools import PYSPARK, SPARK_KAFKA, adapted, fetched, spark_submit

SECTION = "Spark"


def test_spark_writes_each_message_of_the_bus_once_however_often_it_runs(
    bus: FilledBus, tmp_path: Path
) -> None:
    script = adapted(block(SECTION, "python"), {SERVERS: bus.servers, TOPIC: bus.topic})
    jars = ",".join(map(str, fetched(SPARK_KAFKA).glob("*.jar")))
    spark_submit(script + script, tmp_path, "--jars", jars)
    written = tmp_path / "lake/messages"
    assert rows_in(written) == expected_of(bus.messages)
    for row in parquet.read_table(written).to_pylist():
        assert row["payload"] == text_or_none(row["bytes"])
        assert str(row["day"]) == f"{row['timestamp']:%Y-%m-%d}"


def text_or_none(payload: bytes) -> str | None:
    """Return a payload as text, if it is one."""
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return None


def test_the_versions_in_the_document_are_those_that_run_here() -> None:
    commands = block(SECTION, "sh")
    version = PYSPARK.rpartition("-")[2]
    source = f"spark-sql-kafka-0-10_2.13-{version}.jar"
    assert f"pyspark=={version}" in commands
    assert f"spark-sql-kafka-0-10_2.13:{version} lake.py" in commands
    assert (fetched(SPARK_KAFKA) / source).exists()
