"""What a Kafka server may ask of its clients: certificates, names and passwords, rights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.certificates import Identity

USER, PASSWORD = "system", "manager"
"""Who may log in by SASL, with each of ``MECHANISMS``."""

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")


@dataclass(frozen=True, slots=True)
class Security:
    """What a server offers beside PLAINTEXT, each on a port of its own.

    Attributes:
        sasl: SASL_PLAINTEXT, for ``USER``; with an identity also SASL_SSL.
        identity: The server's certificate; with it, SSL.
        client_authority: PEM file of those whose certificates clients of SSL must have.
        authorize: ``USER`` may do nothing that ``KafkaServer.allow`` has not allowed.
    """

    sasl: bool = False
    identity: Identity | None = None
    client_authority: Path | None = None
    authorize: bool = False

    def protocols(self) -> list[str]:
        """Return the names of the protocols."""
        names = ["SSL"] if self.identity is not None else []
        if self.sasl:
            names.append("SASL_PLAINTEXT")
            names += ["SASL_SSL"] if self.identity is not None else []
        return names

    def settings(self, folder: Path) -> dict[str, str]:
        """Return the server's settings; files are written to its folder."""
        settings = _sasl_settings(self.protocols()) if self.sasl else {}
        if self.identity is not None:
            key_store = folder / "server.pem"
            key_store.write_bytes(
                self.identity.key_file.read_bytes() + self.identity.cert_file.read_bytes()
            )
            settings |= {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(key_store)}
        if self.client_authority is not None:
            settings |= {
                "ssl.truststore.type": "PEM",
                "ssl.truststore.location": str(self.client_authority),
                "listener.name.ssl.ssl.client.auth": "required",
            }
        if self.authorize:
            settings |= {
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:ANONYMOUS",  # who comes by PLAINTEXT
            }
        return settings


def _sasl_settings(protocols: Sequence[str]) -> dict[str, str]:
    package = "org.apache.kafka.common.security"
    login = {
        "plain": f'{package}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";',
        "scram-sha-256": f"{package}.scram.ScramLoginModule required;",
        "scram-sha-512": f"{package}.scram.ScramLoginModule required;",
    }
    settings = {"sasl.enabled.mechanisms": ",".join(MECHANISMS)}
    for protocol in protocols:
        for mechanism, line in login.items():
            settings[f"listener.name.{protocol.lower()}.{mechanism}.sasl.jaas.config"] = line
    return settings
