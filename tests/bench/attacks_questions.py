"""Attacks with questions: MCP clients that let the broker's process read much of its archive.

What stands before the ``yield`` prepares; the canary sees what follows.
"""

import http.client
import itertools
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any, NamedTuple

from tests.bench.frames import publish_frame
from tests.bench.stage import CHUNK_SIZE, Stage, joined
from tests.bench.stored import shuffled_topics

MESSAGES, TOPICS = 100_000, 20_000
ANSWER_TIMEOUT_S = 60.0
"""The server gives a question up long before."""
_HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


class Question(NamedTuple):
    """A call of a tool."""

    tool: str
    arguments: Mapping[str, object]


_FIRST = Question("list-archive-groups", {})
QUESTIONS = (
    Question("query-message-archive", {"topic": "plant/site7/#", "limit": 1_000}),
    Question(
        "query-message-archive-aggregated",
        {
            "topic": "#",
            "field": "value",
            "functions": ["avg", "min", "max", "first", "last", "count", "sum"],
            "byTopic": False,
        },
    ),
    Question("find-topics-by-name", {"name": "device1", "limit": 1_000}),
    Question(
        "query-message-archive-by-sql",
        {
            "sql": "SELECT payload_json ->> 'value' AS number, COUNT(*), MAX(topic) "
            "FROM mcparchive GROUP BY number ORDER BY number",
            "limit": 1_000,
        },
    ),
)
"""A page of history, an aggregate over all rows, a search by a part of names, and SQL over all."""


class Failed(RuntimeError):
    """An answer is no result, or one without rows."""


class Asker(threading.Thread):
    """A client that asks one question after the other, without a pause, until a time has come.

    By then it has asked each of ``QUESTIONS``, however short that time is. The server keeps nothing
    of a client between requests, so there is no hand-shake.
    """

    def __init__(self, port: int, questions: Iterator[Question], end: float) -> None:
        """``end`` is on the clock ``time.perf_counter``; what was asked before is waited for."""
        super().__init__(daemon=True)
        self.problem = ""
        self._port = port
        self._questions = questions
        self._end = end

    def run(self) -> None:
        """Ask; the first failure ends it."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_TIMEOUT_S)
        with closing(connection):
            for number, question in enumerate(self._questions):
                if number >= len(QUESTIONS) and time.perf_counter() >= self._end:
                    return
                try:
                    ask(connection, question)
                except (Failed, OSError, http.client.HTTPException, ValueError) as error:
                    self.problem = f"{question.tool}: {error!r}"
                    return


def ask(connection: http.client.HTTPConnection, question: Question) -> None:
    """Ask and wait for the answer.

    Raises:
        Failed: the answer is an error, or has no row.
        OSError: the connection ended, or there is no answer for a long time.
        http.client.HTTPException: the answer is no HTTP.
        ValueError: the answer is no JSON.
    """
    params = {"name": question.tool, "arguments": question.arguments}
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    connection.request("POST", "/mcp", json.dumps(request), _HEADERS)
    response = connection.getresponse()
    answer: dict[str, Any] = json.loads(response.read())
    result = answer.get("result", {})
    if response.status != 200 or "result" not in answer or result.get("isError"):
        raise Failed(f"{response.status}: {answer}")
    if result["structuredContent"].get("returned") == 0:
        raise Failed(f"no rows: {answer}")


def ask_much(stage: Stage, clients: int) -> Iterator[None]:
    """So many MCP clients ask at the same time for what is all over the database."""
    port = stage.running.mcp_port
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_TIMEOUT_S)) as first:
        ask(first, _FIRST)  # answered once all is loaded, which takes longer than MQTT's port
    _fill_archive(stage)
    yield
    end = time.perf_counter() + stage.effort.seconds
    askers = [Asker(port, _questions_from(number), end) for number in range(clients)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
        if asker.problem:
            stage.problems.append(asker.problem)


def _questions_from(number: int) -> Iterator[Question]:
    """All of them in turn, again and again; each client begins with another one."""
    return itertools.islice(itertools.cycle(QUESTIONS), number % len(QUESTIONS), None)


def _fill_archive(stage: Stage) -> None:
    """Messages of very many topics, which the archive has when this returns."""
    publisher = stage.join("publisher")
    topics = itertools.cycle(shuffled_topics(stage.some(TOPICS)))
    frames = (
        publish_frame(next(topics), b'{"value": %d.5, "unit": "C"}' % (number % 100))
        for number in range(stage.some(MESSAGES))
    )
    stage.feed({publisher: joined(frames, CHUNK_SIZE)})
    stage.commit(publisher)
