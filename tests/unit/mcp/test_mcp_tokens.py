"""The tokens of a configuration."""

from pathlib import Path

import pytest
from tests.support.mcp_serving import READER, WRITER, mcp_config

from monstermq_mcp.access import Doorkeeper
from monstermq_mcp.tokens import Tokens
from monstermq_shared.errors import ConfigError


def tokens_of(folder: Path, **mcp: object) -> Tokens:
    return Tokens.from_config(mcp_config(folder, **mcp).mcp)


def file_with(folder: Path, content: bytes) -> str:
    path = folder / "token"
    path.write_bytes(content)
    return str(path)


def test_tokens_come_from_files_without_their_line_ends(tmp_path: Path) -> None:
    file = file_with(tmp_path, READER.encode() + b"\r\n")
    assert tokens_of(tmp_path, TokenFile=file) == Tokens(read=READER, write=None)


@pytest.mark.parametrize("content", [b"", b"short\n", b"two words of sixteen", b"\xff" * 20])
def test_a_file_without_a_token_is_refused_and_not_shown(tmp_path: Path, content: bytes) -> None:
    file = file_with(tmp_path, content)
    with pytest.raises(
        ConfigError, match=r"MCP.TokenFile: what stands in .* must be 16 to 1000"
    ) as it:
        tokens_of(tmp_path, TokenFile=file)
    assert "words" not in str(it.value)


def test_a_file_that_is_not_there_is_named_with_its_key(tmp_path: Path) -> None:
    mcp = {"AllowPublish": True, "WriteTokenFile": str(tmp_path / "none")}
    with pytest.raises(ConfigError, match=r"MCP.WriteTokenFile: .*none cannot be read: No such"):
        tokens_of(tmp_path, **mcp)


def test_the_same_token_for_both_is_refused(tmp_path: Path) -> None:
    file = file_with(tmp_path, READER.encode())
    with pytest.raises(ConfigError, match="give it another"):
        tokens_of(tmp_path, Token=READER, WriteTokenFile=file, AllowPublish=True)


def test_a_write_token_counts_only_where_publishing_is_allowed(tmp_path: Path) -> None:
    assert tokens_of(tmp_path, WriteToken=WRITER).write is None
    assert tokens_of(tmp_path, WriteToken=WRITER, AllowPublish=True).write == WRITER


async def test_each_token_has_its_rights_and_is_not_kept(tmp_path: Path) -> None:
    door = Doorkeeper(tokens_of(tmp_path, Token=READER, WriteToken=WRITER, AllowPublish=True))
    reader, writer = await door.verify_token(READER), await door.verify_token(WRITER)
    assert reader is not None
    assert writer is not None
    assert (reader.scopes, writer.scopes) == (["read"], ["read", "write"])
    assert READER not in repr(reader)
    for wrong in ("", READER[:-1], READER + "x", "\N{LATIN SMALL LETTER E WITH ACUTE}" * 20):
        assert await door.verify_token(wrong) is None
