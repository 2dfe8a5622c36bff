"""What the client's errors mean, in words that name the setting to change.

aiokafka's own texts often are a code and a class; what an operator can do about it is here only.
"""

import ssl
from collections.abc import Iterable

from aiokafka import errors

CLIENT_ERRORS = (errors.KafkaError, OSError, TimeoutError)
"""What a call of the client may raise because of the servers, and not of a fault of ours."""

LOGIN_ERRORS = (
    errors.AuthenticationFailedError,
    errors.SaslAuthenticationFailed,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
)
"""What they raise if the servers do not let us in."""

RIGHTS_ERRORS = (
    errors.TopicAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
)
"""What they raise if the user may not do it."""

_MEANINGS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    (
        (errors.UnsupportedSaslMechanismError, errors.IllegalSaslStateError),
        "the server does not log in by Kafka.Security.Mechanism",
    ),
    (
        (errors.AuthenticationFailedError, errors.SaslAuthenticationFailed),
        "the server refuses the login: check Kafka.Security.User and Pass",
    ),
    (
        RIGHTS_ERRORS,
        "Kafka.Security.User has no right to do this: give it the ACL, or use another user",
    ),
    (
        (ssl.SSLCertVerificationError,),
        "the server's certificate is not trusted: set Kafka.Security.CaFile, and use the name that "
        "is in it in Kafka.Servers",
    ),
    ((ssl.SSLError,), "TLS failed: check Kafka.Security, and whether this is the port for TLS"),
    (
        (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError),
        "a record is larger than the topic takes: raise its max.message.bytes",
    ),
    (
        (errors.InvalidTimestampError,),
        "a record's time is too far from the server's clock: set the clocks, or raise "
        "message.timestamp.before.max.ms and message.timestamp.after.max.ms of the topic",
    ),
    (
        (errors.NotEnoughReplicasError, errors.NotEnoughReplicasAfterAppendError),
        "fewer servers have the partition than its min.insync.replicas",
    ),
    (
        (errors.LeaderNotAvailableError, errors.NotLeaderForPartitionError),
        "a partition has no leader",
    ),
    ((errors.UnknownTopicOrPartitionError,), "the topic is not there"),
    (
        (errors.InvalidReplicationFactorError,),
        "there are fewer servers than the topic is to have copies",
    ),
    ((errors.PolicyViolationError,), "the servers' policy forbids it"),
    ((errors.KafkaTimeoutError, errors.RequestTimedOutError, TimeoutError), "no answer"),
)


_SAID_MAX = 300


def meaning_of(exc: BaseException) -> str:
    """Return what an error means, with what the server said of it in brackets."""
    said = _said(exc)
    for kinds, sentence in _MEANINGS:
        if isinstance(exc, kinds):
            return f"{sentence} ({said})" if said else sentence
    return f"{type(exc).__name__}: {said}" if said else type(exc).__name__


def _said(exc: BaseException) -> str:
    """Return the text on one line, without the number and the class that aiokafka begins with."""
    text = " ".join(map(str, exc.args)) if isinstance(exc, errors.KafkaError) else str(exc)
    return " ".join(text.split())[:_SAID_MAX]


def worst_of(failures: Iterable[BaseException]) -> BaseException:
    """Return the one to tell of, which is the one that does not pass by itself."""
    return min(failures, key=_passes)


def _passes(exc: BaseException) -> bool:
    return not isinstance(exc, (*LOGIN_ERRORS, *RIGHTS_ERRORS, ssl.SSLError))
