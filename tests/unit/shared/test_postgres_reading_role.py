"""What the server keeps of a password."""

import base64
import hashlib
import hmac

from monstermq_shared.stores.postgres.reading_role import scram_verifier


def test_a_verifier_proves_the_password_and_does_not_show_it() -> None:
    """By RFC 5802, 3: StoredKey := H(HMAC(SaltedPassword, "Client Key"))."""
    verifier = scram_verifier("only-reads")
    scheme, salted, keys = verifier.split("$")
    iterations, salt = salted.split(":")
    stored_key, _ = keys.split(":")
    derived = hashlib.pbkdf2_hmac("sha256", b"only-reads", base64.b64decode(salt), int(iterations))
    client_key = hmac.digest(derived, b"Client Key", "sha256")
    assert scheme == "SCRAM-SHA-256"
    assert base64.b64decode(stored_key) == hashlib.sha256(client_key).digest()
    assert "only-reads" not in verifier


def test_no_two_are_alike() -> None:
    assert scram_verifier("only-reads") != scram_verifier("only-reads")


def test_what_the_server_must_normalize_goes_as_it_is() -> None:
    assert scram_verifier("Grüße") == "Grüße"
