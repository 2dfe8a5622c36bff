"""What ``scripts/install-test-tools lake`` fetched, and how it is run."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.machine import program

CONNECT = "connect-4.1.1"
ICEBERG_SINK = "iceberg-sink-1.9.2"
SPARK_KAFKA = "spark-kafka-4.2.0"
PYSPARK = "pyspark-4.2.0"

TOOL_S = 400.0
"""There is a lot to load, and the machine may be busy."""

_SMALL_AND_QUICK = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


def fetched(name: str) -> Path:
    """Return the folder of one of the names above.

    Raises:
        AssertionError: It has not been fetched.
    """
    cache = os.environ.get("MONSTERMQ_TEST_LAKE") or Path.home() / ".cache/monstermq-tests/lake"
    folder = Path(cache) / name
    assert folder.is_dir(), f"there is no {folder}: run scripts/install-test-tools lake"
    return folder


def run_python(
    script: str,
    folder: Path,
    *,
    before: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> None:
    """Run a script to its end in a folder, with this Python.

    Args:
        script: Its text.
        folder: Where it is written to, and runs.
        before: What runs it, if not Python itself.
        env: Variables beside this process's.

    Raises:
        AssertionError: It failed; the message has what it said.
    """
    path = folder / "script.py"
    path.write_text(script, encoding="utf-8")
    command = list(before) or [sys.executable]
    done = subprocess.run(
        [*command, path],
        cwd=folder,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=TOOL_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def spark_submit(script: str, folder: Path, *options: str) -> None:
    """Run a script with ``spark-submit`` on this machine, in a folder.

    Args:
        script: Its text.
        folder: Where it runs.
        options: Of ``spark-submit``.

    Raises:
        AssertionError: It failed.
    """
    root = fetched(PYSPARK)
    submit = ["bash", str(root / "pyspark/bin/spark-submit"), "--master", "local[1]"]
    java = ["--driver-java-options", " ".join(_SMALL_AND_QUICK), "--conf", "spark.ui.enabled=false"]
    where = {
        "PYTHONPATH": str(root),
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    run_python(script, folder, before=[*submit, *java, *options], env=where)


def java(jars: str, name: str, *arguments: str | Path, options: Sequence[str] = ()) -> list[str]:
    """Return the command that runs a class of fetched jars.

    Args:
        jars: Their name, above.
        name: The class.
        arguments: Its own.
        options: Java's.
    """
    return [
        program("java"),
        "-Xmx512m",
        *_SMALL_AND_QUICK,
        *options,
        "-cp",
        f"{fetched(jars)}/*",
        name,
        *map(str, arguments),
    ]


def adapted(text: str, own: Mapping[str, object]) -> str:
    """Return a block of the document with what differs on the tests' machine.

    Args:
        text: The block.
        own: What the document says -> what it is here.

    Raises:
        AssertionError: The document does not say that.
    """
    for words, instead in own.items():
        assert words in text, f"{words!r} is not in {text}"
        text = text.replace(words, str(instead))
    return text
