"""Sections 1.5, 2, 3.1 and 3.2: strings, packet ids, CONNECT and CONNACK."""

from tests.conformance.requirement import Requirement

CONNECT = {
    "MQTT-1.5.3-1": Requirement(
        behaviour="A string that is not well-formed UTF-8 (surrogates, overlong or truncated "
        "sequences) closes the connection."
    ),
    "MQTT-1.5.3-2": Requirement(behaviour="A string that contains U+0000 closes the connection."),
    "MQTT-1.5.3-3": Requirement(
        behaviour="The bytes EF BB BF are the character U+FEFF and are never stripped."
    ),
    "MQTT-2.2.2-1": Requirement(behaviour="Reserved flag bits have the values of table 2.2."),
    "MQTT-2.2.2-2": Requirement(behaviour="A packet with other flags closes the connection."),
    "MQTT-2.3.1-1": Requirement(
        behaviour="SUBSCRIBE, UNSUBSCRIBE and a PUBLISH of QoS 1 or 2 carry a packet id other "
        "than 0."
    ),
    "MQTT-2.3.1-2": Requirement(
        behaviour="A client gives each new packet an id that is not in use.",
        client=True,
        deferred="The client's choice; a server sees only ids, not intentions.",
    ),
    "MQTT-2.3.1-3": Requirement(
        behaviour="A client repeats a packet with its first id, and an id is free again after "
        "the final acknowledgement.",
        client=True,
    ),
    "MQTT-2.3.1-4": Requirement(
        behaviour="The broker repeats a PUBLISH with its first id and reuses an id only after "
        "PUBACK or PUBCOMP."
    ),
    "MQTT-2.3.1-5": Requirement(behaviour="A PUBLISH of QoS 0 has no packet id."),
    "MQTT-2.3.1-6": Requirement(
        behaviour="PUBACK, PUBREC and PUBREL carry the packet id of their PUBLISH."
    ),
    "MQTT-2.3.1-7": Requirement(
        behaviour="SUBACK and UNSUBACK carry the packet id of their request."
    ),
    "MQTT-3.1.0-1": Requirement(
        behaviour="The first packet is CONNECT; any other closes the connection.", client=True
    ),
    "MQTT-3.1.0-2": Requirement(behaviour="A second CONNECT closes the connection."),
    "MQTT-3.1.2-1": Requirement(
        behaviour="A CONNECT with an unknown protocol name is not treated as MQTT 3.1.1."
    ),
    "MQTT-3.1.2-2": Requirement(
        behaviour="An unsupported protocol level gets CONNACK 0x01, then the connection closes."
    ),
    "MQTT-3.1.2-3": Requirement(
        behaviour="The reserved connect flag set to 1 closes the connection."
    ),
    "MQTT-3.1.2-4": Requirement(
        behaviour="CleanSession 0 resumes the client's session, or creates one that outlives the "
        "connection."
    ),
    "MQTT-3.1.2-5": Requirement(
        behaviour="Messages of QoS 1 and 2 that match an absent client's subscriptions are kept "
        "for it."
    ),
    "MQTT-3.1.2-6": Requirement(
        behaviour="CleanSession 1 discards any earlier session, and its own state ends with the "
        "connection."
    ),
    "MQTT-3.1.2-7": Requirement(
        behaviour="Retained messages are not part of a session and outlive it."
    ),
    "MQTT-3.1.2-8": Requirement(
        behaviour="The will of an accepted CONNECT is published when the connection ends without "
        "DISCONNECT."
    ),
    "MQTT-3.1.2-9": Requirement(
        behaviour="With the will flag, will QoS and will retain are used, and will topic and "
        "message are in the payload."
    ),
    "MQTT-3.1.2-10": Requirement(
        behaviour="A will is published at most once and forgotten on DISCONNECT."
    ),
    "MQTT-3.1.2-11": Requirement(
        behaviour="Without the will flag, will QoS and will retain are 0 and the payload has no "
        "will.",
        client=True,
    ),
    "MQTT-3.1.2-12": Requirement(behaviour="Without the will flag, no will is published."),
    "MQTT-3.1.2-13": Requirement(
        behaviour="Without the will flag, a will QoS other than 0 closes the connection.",
        client=True,
    ),
    "MQTT-3.1.2-14": Requirement(
        behaviour="A will of QoS 0, 1 or 2 is accepted; 3 closes the connection.", client=True
    ),
    "MQTT-3.1.2-15": Requirement(
        behaviour="Without the will flag, will retain 1 closes the connection.", client=True
    ),
    "MQTT-3.1.2-16": Requirement(
        behaviour="With will retain 0 the will is published as an ordinary message."
    ),
    "MQTT-3.1.2-17": Requirement(
        behaviour="With will retain 1 the will is published as a retained message."
    ),
    "MQTT-3.1.2-18": Requirement(
        behaviour="Without the user name flag a user name in the payload closes the connection.",
        client=True,
    ),
    "MQTT-3.1.2-19": Requirement(
        behaviour="With the user name flag a missing user name closes the connection.", client=True
    ),
    "MQTT-3.1.2-20": Requirement(
        behaviour="Without the password flag a password in the payload closes the connection.",
        client=True,
    ),
    "MQTT-3.1.2-21": Requirement(
        behaviour="With the password flag a missing password closes the connection.", client=True
    ),
    "MQTT-3.1.2-22": Requirement(
        behaviour="A password flag without the user name flag closes the connection.", client=True
    ),
    "MQTT-3.1.2-23": Requirement(
        behaviour="A client sends something, PINGREQ if nothing else, within its keep-alive.",
        client=True,
    ),
    "MQTT-3.1.2-24": Requirement(
        behaviour="A client that is silent for one and a half times its keep-alive is cut off as "
        "if the network had failed."
    ),
    "MQTT-3.1.3-1": Requirement(
        behaviour="The payload is client id, will topic, will message, user name, password, in "
        "this order.",
        client=True,
    ),
    "MQTT-3.1.3-2": Requirement(behaviour="The client id alone identifies a client's session."),
    "MQTT-3.1.3-3": Requirement(
        behaviour="The client id is the first field of the payload; without it the connection "
        "closes.",
        client=True,
    ),
    "MQTT-3.1.3-4": Requirement(
        behaviour="A client id that is not UTF-8 closes the connection.", client=True
    ),
    "MQTT-3.1.3-5": Requirement(behaviour="Client ids of 1 to 23 letters and digits are accepted."),
    "MQTT-3.1.3-6": Requirement(
        behaviour="A client without an id gets a unique one and is then served like any other."
    ),
    "MQTT-3.1.3-7": Requirement(
        behaviour="A client without an id asks for a clean session.", client=True
    ),
    "MQTT-3.1.3-8": Requirement(
        behaviour="No client id and CleanSession 0 get CONNACK 0x02, then the connection closes."
    ),
    "MQTT-3.1.3-9": Requirement(
        behaviour="A rejected client id gets CONNACK 0x02, then the connection closes."
    ),
    "MQTT-3.1.3-10": Requirement(
        behaviour="A will topic that is not UTF-8 closes the connection.", client=True
    ),
    "MQTT-3.1.3-11": Requirement(
        behaviour="A user name that is not UTF-8 closes the connection.", client=True
    ),
    "MQTT-3.1.4-1": Requirement(
        behaviour="A CONNECT that does not conform closes the connection without CONNACK."
    ),
    "MQTT-3.1.4-2": Requirement(
        behaviour="A CONNECT with the id of a connected client disconnects that client."
    ),
    "MQTT-3.1.4-3": Requirement(behaviour="A valid CONNECT has its CleanSession processed."),
    "MQTT-3.1.4-4": Requirement(behaviour="A valid CONNECT gets CONNACK with code 0."),
    "MQTT-3.1.4-5": Requirement(behaviour="What follows a rejected CONNECT is not processed."),
    "MQTT-3.2.0-1": Requirement(behaviour="The broker's first packet is CONNACK."),
    "MQTT-3.2.2-1": Requirement(behaviour="Session present is 0 for CleanSession 1."),
    "MQTT-3.2.2-2": Requirement(
        behaviour="Session present is 1 for CleanSession 0 when the broker has the session."
    ),
    "MQTT-3.2.2-3": Requirement(
        behaviour="Session present is 0 when the broker has no session for the client."
    ),
    "MQTT-3.2.2-4": Requirement(behaviour="Session present is 0 in a CONNACK whose code is not 0."),
    "MQTT-3.2.2-5": Requirement(
        behaviour="A CONNACK whose code is not 0 is followed by the end of the connection."
    ),
    "MQTT-3.2.2-6": Requirement(
        behaviour="Where no return code applies, the connection closes without CONNACK."
    ),
}
