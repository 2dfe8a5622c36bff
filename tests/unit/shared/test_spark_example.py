"""The Spark program among the examples reads the record that the schema describes."""

import ast
import json
import re
from typing import Any

from tests.support.repository import ROOT

PROGRAM = ROOT / "examples/analyze-mqtt-stream.py"
SCHEMA = json.loads((ROOT / "schemas/bus-record.v1.json").read_text(encoding="utf-8"))


def constant(name: str) -> str:
    """Return the text of a constant of the program, without Spark."""
    module = ast.parse(PROGRAM.read_text(encoding="utf-8"))
    (value,) = (
        node.value
        for node in module.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
    )
    text = ast.literal_eval(value)
    assert isinstance(text, str)
    return text


def spark_type(member: dict[str, Any]) -> str:
    """Return Spark's type of a member."""
    if member.get("format") == "date-time":
        return "TIMESTAMP"
    if "enum" in member:
        assert all(isinstance(value, int) for value in member["enum"])
        return "INT"
    return {"string": "STRING", "boolean": "BOOLEAN"}[member["type"]]


def test_the_columns_are_the_members_of_a_message() -> None:
    columns = dict(line.split() for line in constant("RECORD").strip().split(",\n"))
    members = SCHEMA["$defs"]["message"]["properties"]
    # These say how the broker keeps QoS 2 apart, and nothing of the message.
    of_the_broker = {"packetId", "epoch"}
    assert columns == {
        name: spark_type(member) for name, member in members.items() if name not in of_the_broker
    }


def test_it_reads_the_topic_of_the_example() -> None:
    text = PROGRAM.read_text(encoding="utf-8")
    example = (ROOT / "examples/config-kafka-bus.yaml").read_text(encoding="utf-8")
    (topic,) = re.findall(r'"--topic", default="(.*?)"', text)
    assert f"Topic: {topic} " in example
    assert "monstermq-control" in text
