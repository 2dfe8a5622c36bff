"""The tokens of a configuration, wherever they stand."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from monstermq_shared.config import Mcp
from monstermq_shared.config.mcp import PROBLEM_OF_SECRETS, is_token
from monstermq_shared.errors import ConfigError

_FILE_SIZE_MAX = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What must be shown.

    Attributes:
        read: To read; None: nothing.
        write: To publish; None: nobody may.
    """

    read: str | None
    write: str | None

    @classmethod
    def from_config(cls, mcp: Mcp) -> "Tokens":
        """Return the tokens of a configuration, from their files where it says so.

        Raises:
            ConfigError: A file cannot be read, has no token, or both are the same.
        """
        read = _token("MCP.TokenFile", mcp.token, mcp.token_file)
        write = _token("MCP.WriteTokenFile", mcp.write_token, mcp.write_token_file)
        if read is not None and read == write:
            raise ConfigError(
                "the write token of MCP is the token to read, too: whoever may read could publish; "
                "give it another"
            )
        return cls(read=read, write=write if mcp.allow_publish else None)


def _token(key: str, value: SecretStr | None, file: str | None) -> str | None:
    if file is None:
        return None if value is None else value.get_secret_value()
    try:
        with Path(file).open("rb") as opened:
            text = opened.read(_FILE_SIZE_MAX).decode("ascii").strip()
    except OSError as exc:
        raise ConfigError(f"{key}: {file} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError:
        text = ""
    if not is_token(text):
        raise ConfigError(f"{key}: what stands in {file} {PROBLEM_OF_SECRETS}")
    return text
