"""Sections 4, 6 and 7: sessions, delivery, order, topics, errors, WebSocket, conformance."""

from tests.conformance.requirement import Requirement

OPERATION = {
    "MQTT-4.1.0-1": Requirement(
        behaviour="Session state (subscriptions, what is owed, open ids) lasts as long as the "
        "session."
    ),
    "MQTT-4.1.0-2": Requirement(behaviour="A session lasts at least as long as its connection."),
    "MQTT-4.3.1-1": Requirement(behaviour="QoS 0 is sent as PUBLISH with QoS 0 and DUP 0."),
    "MQTT-4.3.2-1": Requirement(
        behaviour="As a sender of QoS 1 the broker uses an unused id and DUP 0, and keeps the "
        "message until PUBACK.",
        divergence="What a session is owed from before a restart goes out with DUP 1, whether it "
        "had been sent or not.",
    ),
    "MQTT-4.3.2-2": Requirement(
        behaviour="As a receiver of QoS 1 the broker answers PUBACK, after which the same id is a "
        "new message whatever its DUP says."
    ),
    "MQTT-4.3.3-1": Requirement(
        behaviour="As a sender of QoS 2 the broker uses an unused id and DUP 0, answers PUBREC "
        "with PUBREL, keeps each until its answer, and never repeats a PUBLISH after PUBREL."
    ),
    "MQTT-4.3.3-2": Requirement(
        behaviour="As a receiver of QoS 2 the broker answers PUBREC, delivers an open id once "
        "however often it comes, and after PUBREL and PUBCOMP takes the id as new."
    ),
    "MQTT-4.4.0-1": Requirement(
        behaviour="A resumed session gets its unacknowledged PUBLISH and PUBREL again, with their "
        "first packet ids.",
        divergence="Packet ids of QoS 1 live as long as the process: after a restart, messages of "
        "QoS 1 that were owed go out with DUP 1 and new ids.",
    ),
    "MQTT-4.5.0-1": Requirement(
        behaviour="A message the broker has acknowledged is owed to every session that matches it."
    ),
    "MQTT-4.5.0-2": Requirement(
        behaviour="A client acknowledges every PUBLISH, whatever it does with the message.",
        client=True,
        deferred="The client's duty; the broker's side is in 4.3.2-1 and 4.3.3-1.",
    ),
    "MQTT-4.6.0-1": Requirement(
        behaviour="Messages are sent again in the order in which they were first sent."
    ),
    "MQTT-4.6.0-2": Requirement(
        behaviour="PUBACKs go out in the order of their PUBLISHes.", client=True
    ),
    "MQTT-4.6.0-3": Requirement(
        behaviour="PUBRECs go out in the order of their PUBLISHes.", client=True
    ),
    "MQTT-4.6.0-4": Requirement(
        behaviour="PUBRELs go out in the order of their PUBRECs.", client=True
    ),
    "MQTT-4.6.0-5": Requirement(behaviour="Every topic is an ordered topic."),
    "MQTT-4.6.0-6": Requirement(
        behaviour="Messages of one publisher, topic and QoS reach every subscriber in order."
    ),
    "MQTT-4.7.1-1": Requirement(
        behaviour="Wildcards are for filters; a topic name with one closes the connection.",
        client=True,
    ),
    "MQTT-4.7.1-2": Requirement(
        behaviour="# is the last level of a filter and a level of its own; it matches the parent "
        "too."
    ),
    "MQTT-4.7.1-3": Requirement(
        behaviour="+ fills a whole level, any of them, and matches exactly one level."
    ),
    "MQTT-4.7.2-1": Requirement(
        behaviour="A filter that begins with a wildcard does not match a topic that begins with $."
    ),
    "MQTT-4.7.3-1": Requirement(
        behaviour="Empty topic names and filters close the connection.", client=True
    ),
    "MQTT-4.7.3-2": Requirement(
        behaviour="U+0000 in a topic name or filter closes the connection.", client=True
    ),
    "MQTT-4.7.3-3": Requirement(
        behaviour="A topic name has at most 65,535 bytes, and one of that length is delivered."
    ),
    "MQTT-4.7.3-4": Requirement(
        behaviour="Topics are matched as they are: case, blanks, empty levels and equivalent "
        "Unicode forms all differ."
    ),
    "MQTT-4.8.0-1": Requirement(behaviour="A protocol violation closes its own connection."),
    "MQTT-4.8.0-2": Requirement(
        behaviour="A packet that cannot be processed for now closes its connection: too many open "
        "QoS 2 ids, for one."
    ),
    "MQTT-6.0.0-1": Requirement(
        behaviour="MQTT travels in binary WebSocket frames; a text frame closes the connection."
    ),
    "MQTT-6.0.0-2": Requirement(behaviour="Packets may span WebSocket frames and share them."),
    "MQTT-6.0.0-3": Requirement(
        behaviour="A WebSocket client offers the subprotocol mqtt.", client=True
    ),
    "MQTT-6.0.0-4": Requirement(behaviour="The broker selects the subprotocol mqtt."),
    "MQTT-7.0.0-1": Requirement(
        behaviour="A server that also connects to others is a conforming client as well.",
        deferred="The broker opens no connections to other brokers.",
    ),
    "MQTT-7.0.0-2": Requirement(
        behaviour="A client needs nothing beyond the standard to work with the broker."
    ),
    "MQTT-7.1.1-1": Requirement(
        behaviour="The broker serves MQTT over an ordered, lossless stream of bytes: TCP."
    ),
    "MQTT-7.1.2-1": Requirement(
        behaviour="A client uses an ordered, lossless stream of bytes.",
        client=True,
        deferred="The client's duty.",
    ),
}
