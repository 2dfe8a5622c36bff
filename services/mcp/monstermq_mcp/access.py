"""Who may read and who may publish: the SDK's side of the tokens."""

import secrets

from mcp.server.auth.provider import AccessToken, TokenVerifier

from monstermq_mcp.tokens import Tokens

READ = "read"
"""The scope of who may read."""

WRITE = "write"
"""The scope of who may publish."""


class Doorkeeper(TokenVerifier):
    """Tells by its token what a client may do.

    Args:
        tokens: What must be shown.
    """

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return who shows it, without the token; None if it is no token of ours."""
        if _is_same(token, self._tokens.write):
            return AccessToken(token="", client_id="writer", scopes=[READ, WRITE])
        if _is_same(token, self._tokens.read):
            return AccessToken(token="", client_id="reader", scopes=[READ])
        return None


def _is_same(shown: str, expected: str | None) -> bool:
    """Compare in a time that does not tell how much of it was right."""
    return expected is not None and secrets.compare_digest(shown.encode(), expected.encode())
