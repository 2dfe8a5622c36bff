"""What the columns payload and payload_json say of a payload."""

import json

import pytest
from tests.support.postgres_database import connected, open_database

pytestmark = pytest.mark.integration

JSON = [b"{}", b"[1]", b'"a"', b"0", b"9.5", b"-1e3", b"true", b"false", b"null"]
"""All that JSON can begin with."""

NOT_JSON = [b"", b" ", b"abc", b"nan", b"Infinity", b"+1", b".5", b"'a'", b"{", b"\xef\xbb\xbf1"]
REFUSED = [b"1e400000", b'"\\ud800"', b'"\\u0000"', b"\xff", b"\x00", b'"\xff"', b"\x0c1"]
"""JSON that jsonb does not take, and what is no text."""


@pytest.mark.parametrize("blank", [b"", b" ", b"\t", b"\n", b"\r", b" \r\n\t"])
async def test_json_is_recognised_whatever_it_begins_with(
    postgres_schema: str, blank: bytes
) -> None:
    await (await open_database(postgres_schema)).close()
    async with connected(postgres_schema) as connection:
        for payload in JSON:
            found = await connection.fetchval("SELECT monstermq_json($1)", blank + payload)
            assert json.loads(found) == json.loads(payload)


async def test_what_jsonb_refuses_is_null_and_no_error(postgres_schema: str) -> None:
    await (await open_database(postgres_schema)).close()
    async with connected(postgres_schema) as connection:
        for payload in [*NOT_JSON, *REFUSED]:
            assert await connection.fetchval("SELECT monstermq_json($1)", payload) is None


async def test_text_is_what_is_utf_8_without_nul(postgres_schema: str) -> None:
    await (await open_database(postgres_schema)).close()
    async with connected(postgres_schema) as connection:
        for payload in [*JSON, b"", b"\xc3\xa4", b"1e400000"]:
            found = await connection.fetchval("SELECT monstermq_text($1)", payload)
            assert found == payload.decode()
        for payload in [b"\xff", b"a\x00", b"\xc3"]:
            assert await connection.fetchval("SELECT monstermq_text($1)", payload) is None
