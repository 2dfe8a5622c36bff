"""PostgreSQL addresses, as the JDBC driver and libpq write them."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monstermq_shared.config.postgres_parameters import IGNORED, PARAMETERS, canonical
from monstermq_shared.config.postgres_urls import (
    CONNECT_TIMEOUT_S,
    ConnectionSettings,
    Host,
    SslMode,
    TlsSettings,
    describe,
    parse_url,
)
from monstermq_shared.errors import ConfigError

SECRET = "s3cr3t"
LOCAL = (Host("localhost", 5432),)


def parsed(url: str) -> ConnectionSettings:
    """Read a URL beside the configuration's defaults."""
    return parse_url(url, user="system", password="manager")


@pytest.mark.parametrize(
    ("url", "hosts", "database"),
    [
        ("jdbc:postgresql://localhost:5432/monster", LOCAL, "monster"),
        ("JDBC:PostgreSQL://localhost/monster", LOCAL, "monster"),
        ("  jdbc:postgresql://localhost/monster ", LOCAL, "monster"),
        ("jdbc:postgresql:monster", LOCAL, "monster"),
        ("jdbc:postgresql:/", LOCAL, "system"),
        ("jdbc:postgresql:", LOCAL, "system"),
        ("jdbc:postgresql://localhost/", LOCAL, "system"),
        ("jdbc:postgresql://localhost", LOCAL, "system"),
        ("jdbc:postgresql:///monster", LOCAL, "monster"),
        ("jdbc:postgresql://db:6432/a%20b", (Host("db", 6432),), "a b"),
        ("jdbc:postgresql://db/a+b", (Host("db", 5432),), "a b"),
        ("postgresql://db/a+b", (Host("db", 5432),), "a+b"),
        ("postgres://db/m%C3%B6nster", (Host("db", 5432),), "mönster"),
        ("postgresql://", LOCAL, "system"),
        ("postgresql://db?dbname=other", (Host("db", 5432),), "other"),
        ("postgresql://[::1]:6432/m", (Host("::1", 6432),), "m"),
        ("postgresql://[fe80::1%25eth0]/m", (Host("fe80::1%eth0", 5432),), "m"),
        ("jdbc:postgresql://[2001:db8::2]/m", (Host("2001:db8::2", 5432),), "m"),
        (
            "jdbc:postgresql://a:1,b,[::1]:3/m",
            (Host("a", 1), Host("b", 5432), Host("::1", 3)),
            "m",
        ),
        ("postgresql://%2Fvar%2Frun%2Fpostgresql/m", (Host("/var/run/postgresql", 5432),), "m"),
        ("postgresql:///m?host=/tmp&port=5433", (Host("/tmp", 5433),), "m"),
        ("postgresql://a:1,b:2/m?port=7", (Host("a", 7), Host("b", 7)), "m"),
    ],
)
def test_hosts_and_database_are_where_both_kinds_of_url_have_them(
    url: str, hosts: tuple[Host, ...], database: str
) -> None:
    settings = parsed(url)
    assert settings.hosts == hosts
    assert settings.database == database


@pytest.mark.parametrize(
    ("url", "user", "password"),
    [
        ("jdbc:postgresql://db/m", "system", "manager"),
        ("jdbc:postgresql://db/m?user=u&password=p", "u", "p"),
        ("jdbc:postgresql://db/m?user=u", "u", "manager"),
        ("jdbc:postgresql://db/m?password=", "system", ""),
        ("jdbc:postgresql://db/m?password=a+b%2Bc", "system", "a b+c"),
        ("postgresql://db/m?password=a+b", "system", "a+b"),
        ("postgresql://u:p@db/m", "u", "p"),
        ("postgresql://u@db/m", "u", "manager"),
        ("postgresql://u:@db/m", "u", ""),
        ("postgresql://u:p@db/m?user=v&password=q", "v", "q"),
        ("postgresql://u%40x:p%3A%2F%3F%23%5B%40@db/m", "u@x", "p:/?#[@"),
        ("postgresql://u:p@ss:w@db/m", "u", "p@ss:w"),
        ("postgresql://:p@db/m", "system", "p"),
        ("postgresql://u:p%E2%82%AC@db/m", "u", "p€"),
    ],
)
def test_credentials_in_the_url_count_before_the_keys(url: str, user: str, password: str) -> None:
    settings = parsed(url)
    assert (settings.user, settings.password) == (user, password)
    assert settings.hosts == (Host("db", 5432),)


def test_without_parameters_everything_has_its_default() -> None:
    assert parsed("jdbc:postgresql://localhost/m") == ConnectionSettings(
        hosts=LOCAL, database="m", user="system", password="manager"
    )


def test_parameters_are_known_in_the_spelling_of_either() -> None:
    jdbc = "connectTimeout=3&socketTimeout=20&ApplicationName=mine&targetServerType=primary"
    libpq = "connect_timeout=3&socket_timeout=20&application_name=mine&target_session_attrs=any"
    of_jdbc = parsed(f"jdbc:postgresql://h/m?{jdbc}&currentSchema=a,%22B%20c%22&options=-c%20x%3D1")
    of_libpq = parsed(f"postgresql://h/m?{libpq}&current_schema=a,%22B%20c%22&options=-c%20x%3D1")
    assert of_jdbc == of_libpq
    assert of_jdbc.connect_timeout_s == 3.0 != CONNECT_TIMEOUT_S
    assert of_jdbc.socket_timeout_s == 20.0
    assert of_jdbc.application_name == "mine"
    assert of_jdbc.search_path == 'a,"B c"'
    assert of_jdbc.options == "-c x=1"


@pytest.mark.parametrize(
    ("query", "tls"),
    [
        ("", TlsSettings(mode=SslMode.PREFER)),
        ("sslmode=disable", TlsSettings(mode=SslMode.DISABLE)),
        ("sslmode=ALLOW", TlsSettings(mode=SslMode.ALLOW)),
        ("sslmode=require", TlsSettings(mode=SslMode.REQUIRE)),
        ("ssl=true", TlsSettings(mode=SslMode.VERIFY_FULL)),
        ("ssl", TlsSettings(mode=SslMode.VERIFY_FULL)),
        ("ssl=false", TlsSettings(mode=SslMode.PREFER)),
        ("ssl=true&sslmode=require", TlsSettings(mode=SslMode.REQUIRE)),
        ("sslmode=verify-full&sslrootcert=system", TlsSettings(mode=SslMode.VERIFY_FULL)),
        (
            "sslmode=verify-ca&sslrootcert=/a%20b/ca.pem",
            TlsSettings(mode=SslMode.VERIFY_CA, ca_file="/a b/ca.pem"),
        ),
        (
            "sslmode=require&sslcert=c.pem&sslkey=k.pem&sslpassword=x",
            TlsSettings(
                mode=SslMode.REQUIRE, cert_file="c.pem", key_file="k.pem", key_password="x"
            ),
        ),
    ],
)
def test_tls_is_asked_for_as_elsewhere(query: str, tls: TlsSettings) -> None:
    assert parsed(f"jdbc:postgresql://h/m?{query}").tls == tls


def test_what_only_tunes_other_drivers_is_ignored_and_told() -> None:
    settings = parsed("jdbc:postgresql://h/m?reWriteBatchedInserts=true&tcpKeepAlive=1&user=u")
    assert settings.ignored == ("reWriteBatchedInserts", "tcpKeepAlive")
    assert settings.user == "u"


def test_no_parameter_is_both_known_and_ignored() -> None:
    assert not PARAMETERS & IGNORED
    folded = [name.casefold().replace("_", "") for name in PARAMETERS | IGNORED]
    assert len(folded) == len(set(folded))
    assert all(canonical(name) == name for name in PARAMETERS | IGNORED)


def test_a_database_is_described_without_its_password() -> None:
    settings = parsed(f"postgresql://u:{SECRET}@a:1,[::1]:2/m?sslmode=require&sslpassword={SECRET}")
    assert describe(settings) == "a:1,[::1]:2/m"
    assert SECRET not in repr(settings)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "does not begin with"),
        ("localhost:5432/monster", "does not begin with"),
        ("jdbc:mysql://localhost/m", "does not begin with"),
        ("postgresql:monster", "does not begin with"),
        ("http://localhost/m", "jdbc:postgresql://localhost:5432/monster"),
        ("postgresql://h:0/m", "from 1 to 65535"),
        ("postgresql://h:65536/m", "from 1 to 65535"),
        ("postgresql://h:abc/m", "from 1 to 65535"),
        ("postgresql://h:-1/m", "from 1 to 65535"),
        ("postgresql://h:\u0663/m", "from 1 to 65535"),
        ("postgresql://a,b:x/m", "host 2"),
        ("postgresql://::1/m", r"\[::1\]:5432"),
        ("postgresql://[::1/m", "bracket"),
        ("postgresql://[::1]5432/m", "bracket"),
        ("postgresql://[localhost]/m", "no IPv6 address"),
        ("postgresql://a b/m", "no name"),
        ("postgresql://%2e%2f/m", "no name"),
        ("postgresql://h/m/n", "does not belong there"),
        ("postgresql://h/m#n", "does not belong there"),
        ("postgresql://h/%", "begins no escape"),
        ("postgresql://h/%g0", "begins no escape"),
        ("postgresql://h/%ff", "not UTF-8"),
        ("postgresql://h/a%00b", "NUL"),
        ("postgresql://h/a\nb", "control characters"),
        ("postgresql://h/" + "a" * 20_000, "too long"),
        ("postgresql://" + ",".join("abcdefghijklmnopq") + "/m", "more than 16 hosts"),
        ("postgresql://a,b/m?host=c", "beside several hosts"),
        ("postgresql://h/m?sslmod=require", "did you mean sslmode"),
        ("postgresql://h/m?currentschema2=x", "did you mean currentSchema"),
        ("postgresql://h/m?colour=red", "colour; there are ApplicationName"),
        ("postgresql://h/m?channel_binding=require", "channel_binding; there are"),
        ("postgresql://h/m?user=a&user=b", "user twice"),
        ("postgresql://h/m?connectTimeout=0", "connectTimeout"),
        ("postgresql://h/m?connectTimeout=1.5", "seconds from 1"),
        ("postgresql://h/m?socketTimeout=99999", "socketTimeout"),
        ("postgresql://h/m?targetServerType=secondary", "targetServerType.*primary"),
        ("postgresql://h/m?target_session_attrs=standby", "target_session_attrs.*primary"),
        ("postgresql://h/m?sslmode=full", "verify-full"),
        ("postgresql://h/m?sslmode=verify-ca", "sslrootcert"),
        ("postgresql://h/m?sslmode=require&sslrootcert=system", "needs sslmode=verify-full"),
        ("postgresql://h/m?sslrootcert=ca.pem", "sslmode=prefer does not use"),
        ("postgresql://h/m?sslmode=require&sslkey=k", "needs its certificate"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_fix(url: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as refusal:
        parsed(url)
    assert str(refusal.value).startswith("Postgres.Url ")


def test_a_url_without_any_user_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"CrateDB\.User"):
        parse_url("postgresql://h/m", section="CrateDB")


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{SECRET}/x@h/m",
        f"postgresql://u:{SECRET}?x@h/m",
        f"postgresql://u:{SECRET}#x@h/m",
        f"postgresql://u:x?{SECRET}@h/m",
        f"postgresql://u:x?a&{SECRET}=b@h/m",
        f"postgresql://u:x?{SECRET}=b@h/m",
        f"postgresql://u:x/{SECRET}@h/m",
        f"postgresql://u:%{SECRET}@h/m",
        f"postgresql://h/m?password=a&{SECRET}",
        f"postgresql://h/m?password=a&{SECRET}=b",
        f"postgresql://h/m?password=%zz{SECRET}",
        f"postgresql://u:x:{SECRET}",
        f"u:{SECRET}@h/m",
        f"jdbc:postgresql://u:[{SECRET}]@h:x/m",
    ],
)
def test_an_error_never_shows_a_password_that_nobody_escaped(url: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        parsed(url)
    assert SECRET not in str(refusal.value)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for scheme in ("", "jdbc:postgresql:", "postgresql://", "postgresql://h/m?"):
        try:
            settings = parsed(scheme + text)
        except ConfigError:
            continue
        assert settings.hosts
        assert settings.user


NAMES = st.text(min_size=1, max_size=12).filter(lambda text: "\0" not in text)


@given(user=NAMES, password=NAMES, database=NAMES)
def test_what_is_escaped_comes_back(user: str, password: str, database: str) -> None:
    parts = [quote(part, safe="") for part in (user, password, database)]
    settings = parse_url("postgresql://{}:{}@h/{}".format(*parts))
    assert (settings.user, settings.password, settings.database) == (user, password, database)
