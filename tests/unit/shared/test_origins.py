"""Origins: what is one, in which spelling it is compared, and what only looks like one."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monstermq_shared.origins import parse_origin


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("http://localhost", "http://localhost"),
        ("HTTP://LocalHost:8080", "http://localhost:8080"),
        ("http://a.example:80", "http://a.example"),
        ("https://a.example:443", "https://a.example"),
        ("https://a.example:80", "https://a.example:80"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1"),
        ("http://[::1]:9464", "http://[::1]:9464"),
        ("http://[0:0:0:0:0:0:0:1]", "http://[::1]"),
        ("http://[2001:DB8::0A]", "http://[2001:db8::a]"),
        ("http://my_host:65535", "http://my_host:65535"),
        ("http://xn--bcher-kva.example", "http://xn--bcher-kva.example"),
        ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh"),
    ],
)
def test_an_origin_has_one_spelling(text: str, spelled: str) -> None:
    assert str(parse_origin(text)) == spelled


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "*",
        "localhost",
        "localhost:8080",
        "//localhost",
        "http:",
        "http://",
        "http:/localhost",
        "http:localhost",
        "http://:80",
        "http://localhost:",
        "http://localhost:0",
        "http://localhost:080",
        "http://localhost:+80",
        "http://localhost:65536",
        "http://localhost:99999999999",
        "http://localhost/",
        "http://localhost?",
        "http://localhost#",
        "http://localhost\\@evil.example",
        "http://localhost@evil.example",
        "http://evil.example@localhost",
        "http://user:password@localhost",
        "http://localhost.",
        "http://.localhost",
        "http://local..host",
        "http://localhost evil.example",
        "http://localhost,http://evil.example",
        "http://localhost http://evil.example",
        " http://localhost",
        "http://localhost ",
        "http://localhost\t",
        "http://localhost\n",
        "http://localhost\x00",
        "http://localhost%00.evil.example",
        "http://%6cocalhost",
        "http://localho\u017ft",  # a long s, which some fold to s
        "http://\uff4cocalhost",
        "http://\u0661\u0662\u0667.0.0.1",  # digits, but not these ten
        "http://localhost:\u0661",
        "http://127.1",
        "http://2130706433",
        "http://127.0.0.1.1",
        "http://127.0.0.01",
        "http://127.0.0.256",
        "http://[127.0.0.1]",
        "http://[::1",
        "http://::1",
        "http://[::1]]",
        "http://[::1]evil.example",
        "http://[::1]:",
        "http://[:::1]",
        "http://[fe80::1%eth0]",
        "http://[fe80::1%25eth0]",
        "http://[]",
        "http://" + "a" * 254,
        "http://" + "a." * 100_000 + "a",
        "a" * 1_000 + "://localhost",
    ],
)
def test_what_only_looks_like_an_origin_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an origin|has "):
        parse_origin(text)


@given(st.text(st.sampled_from("htp:/[]@.%#?\\ 01localhost-_*\x00\u0130\u017f"), max_size=40))
def test_whatever_is_read_as_an_origin_is_read_again_as_the_same(text: str) -> None:
    with suppress(ValueError):
        parsed = parse_origin(text)
        assert parse_origin(str(parsed)) == parsed
        assert not set("@/?#%\\ ") & set(parsed.host)
