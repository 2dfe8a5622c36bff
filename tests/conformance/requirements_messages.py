"""Sections 3.3 to 3.14: PUBLISH, SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT and their answers."""

from tests.conformance.requirement import Requirement

MESSAGES = {
    "MQTT-3.3.1-1": Requirement(behaviour="A PUBLISH that is sent again has DUP 1."),
    "MQTT-3.3.1-2": Requirement(behaviour="A PUBLISH of QoS 0 has DUP 0."),
    "MQTT-3.3.1-3": Requirement(
        behaviour="DUP of an incoming PUBLISH is not passed on to subscribers."
    ),
    "MQTT-3.3.1-4": Requirement(behaviour="A PUBLISH of QoS 3 closes the connection."),
    "MQTT-3.3.1-5": Requirement(
        behaviour="A PUBLISH with RETAIN 1 is kept with its QoS for future subscribers."
    ),
    "MQTT-3.3.1-6": Requirement(
        behaviour="A new subscription is sent the last retained message of every topic it matches."
    ),
    "MQTT-3.3.1-7": Requirement(
        behaviour="A retained message of QoS 0 replaces what was retained on its topic."
    ),
    "MQTT-3.3.1-8": Requirement(
        behaviour="A message sent because of a new subscription has RETAIN 1."
    ),
    "MQTT-3.3.1-9": Requirement(
        behaviour="A message sent to an established subscription has RETAIN 0."
    ),
    "MQTT-3.3.1-10": Requirement(
        behaviour="An empty message with RETAIN 1 is delivered and removes what was retained."
    ),
    "MQTT-3.3.1-11": Requirement(behaviour="An empty message is never retained."),
    "MQTT-3.3.1-12": Requirement(
        behaviour="A message with RETAIN 0 leaves what is retained on its topic alone."
    ),
    "MQTT-3.3.2-1": Requirement(
        behaviour="The topic name is the first field of a PUBLISH and is UTF-8.", client=True
    ),
    "MQTT-3.3.2-2": Requirement(
        behaviour="A PUBLISH to a topic name with a wildcard closes the connection.", client=True
    ),
    "MQTT-3.3.2-3": Requirement(
        behaviour="The topic of a delivered PUBLISH matches a filter of its receiver."
    ),
    "MQTT-3.3.4-1": Requirement(
        behaviour="QoS 0 is not answered, QoS 1 with PUBACK, QoS 2 with PUBREC."
    ),
    "MQTT-3.3.5-1": Requirement(
        behaviour="A message that matches several filters of a client is delivered with the "
        "highest of their QoS."
    ),
    "MQTT-3.3.5-2": Requirement(
        behaviour="A PUBLISH that is not allowed is acknowledged as usual, or closes the "
        "connection."
    ),
    "MQTT-3.6.1-1": Requirement(behaviour="PUBREL with flags other than 2 closes the connection."),
    "MQTT-3.8.1-1": Requirement(
        behaviour="SUBSCRIBE with flags other than 2 closes the connection."
    ),
    "MQTT-3.8.3-1": Requirement(
        behaviour="A topic filter of a SUBSCRIBE that is not UTF-8 closes the connection.",
        client=True,
    ),
    "MQTT-3.8.3-2": Requirement(
        behaviour="A server without wildcards refuses filters with wildcards; ours grants them."
    ),
    "MQTT-3.8.3-3": Requirement(
        behaviour="A SUBSCRIBE without any filter closes the connection.", client=True
    ),
    "MQTT-3.8.3-4": Requirement(
        behaviour="A requested QoS of 3, or a reserved bit beside it, closes the connection."
    ),
    "MQTT-3.8.4-1": Requirement(behaviour="SUBSCRIBE is answered with SUBACK."),
    "MQTT-3.8.4-2": Requirement(behaviour="SUBACK carries the packet id of its SUBSCRIBE."),
    "MQTT-3.8.4-3": Requirement(
        behaviour="The same filter again replaces the subscription, sends what is retained again "
        "and does not interrupt delivery."
    ),
    "MQTT-3.8.4-4": Requirement(
        behaviour="A SUBSCRIBE of several filters works as several of one, with one SUBACK."
    ),
    "MQTT-3.8.4-5": Requirement(
        behaviour="SUBACK has one code per filter: the granted QoS or 0x80."
    ),
    "MQTT-3.8.4-6": Requirement(
        behaviour="A message is delivered with the lower of its own and the granted QoS."
    ),
    "MQTT-3.9.3-1": Requirement(behaviour="SUBACK codes stand in the order of the filters."),
    "MQTT-3.9.3-2": Requirement(behaviour="SUBACK codes are 0x00, 0x01, 0x02 or 0x80."),
    "MQTT-3.10.1-1": Requirement(
        behaviour="UNSUBSCRIBE with flags other than 2 closes the connection."
    ),
    "MQTT-3.10.3-1": Requirement(
        behaviour="A topic filter of an UNSUBSCRIBE that is not UTF-8 closes the connection.",
        client=True,
    ),
    "MQTT-3.10.3-2": Requirement(
        behaviour="An UNSUBSCRIBE without any filter closes the connection.", client=True
    ),
    "MQTT-3.10.4-1": Requirement(
        behaviour="UNSUBSCRIBE removes the subscription whose filter is the same character by "
        "character, and no other."
    ),
    "MQTT-3.10.4-2": Requirement(
        behaviour="No message that comes after UNSUBACK is delivered for the removed filter."
    ),
    "MQTT-3.10.4-3": Requirement(
        behaviour="Deliveries of QoS 1 and 2 that have begun are completed after UNSUBSCRIBE."
    ),
    "MQTT-3.10.4-4": Requirement(
        behaviour="UNSUBSCRIBE is answered with UNSUBACK of the same packet id."
    ),
    "MQTT-3.10.4-5": Requirement(
        behaviour="UNSUBSCRIBE of an unknown filter is answered with UNSUBACK."
    ),
    "MQTT-3.10.4-6": Requirement(
        behaviour="An UNSUBSCRIBE of several filters removes all of them, with one UNSUBACK."
    ),
    "MQTT-3.12.4-1": Requirement(behaviour="PINGREQ is answered with PINGRESP."),
    "MQTT-3.14.1-1": Requirement(
        behaviour="DISCONNECT with reserved bits set is a protocol error, not a graceful end."
    ),
    "MQTT-3.14.4-1": Requirement(
        behaviour="A client closes the connection after DISCONNECT; if it does not, we do.",
        client=True,
    ),
    "MQTT-3.14.4-2": Requirement(
        behaviour="A client sends nothing after DISCONNECT; if it does, that is not processed.",
        client=True,
    ),
    "MQTT-3.14.4-3": Requirement(behaviour="DISCONNECT discards the will."),
}
