"""What the errors of Kafka's client mean to an operator."""

import ssl

import pytest
from aiokafka import errors

from monstermq_shared.kafka.errors import meaning_of, worst_of


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.SaslAuthenticationFailed("Invalid username"), "Kafka.Security.User and Pass"),
        (errors.UnsupportedSaslMechanismError(), "Kafka.Security.Mechanism"),
        (errors.TopicAuthorizationFailedError("sensors"), "Kafka.Security.User has no right"),
        (ssl.SSLCertVerificationError("self-signed"), "Kafka.Security.CaFile"),
        (ssl.SSLError("wrong version number"), "TLS failed"),
        (errors.MessageSizeTooLargeError(), "max.message.bytes"),
        (errors.InvalidTimestampError(), "message.timestamp.before.max.ms"),
        (errors.NotEnoughReplicasError(), "min.insync.replicas"),
        (errors.LeaderNotAvailableError(), "has no leader"),
        (errors.UnknownTopicOrPartitionError(), "is not there"),
        (errors.InvalidReplicationFactorError(), "fewer servers"),
        (errors.KafkaTimeoutError(), "no answer"),
        (TimeoutError(), "no answer"),
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
    ],
)
def test_an_error_names_what_to_change(error: BaseException, words: str) -> None:
    assert words in meaning_of(error)


def test_what_the_server_said_is_kept_on_one_line_and_bounded() -> None:
    told = meaning_of(errors.PolicyViolationError("no\n" + "x" * 10_000))
    assert told.startswith("the servers' policy forbids it (no xxx")
    assert len(told) < 400


def test_what_does_not_pass_by_itself_is_told_first() -> None:
    denied = errors.SaslAuthenticationFailed()
    assert worst_of([TimeoutError(), denied, errors.KafkaTimeoutError()]) is denied
