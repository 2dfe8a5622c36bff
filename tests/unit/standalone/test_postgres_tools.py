"""The lines for PostgreSQL's own tools: they lead where the broker goes, without a password."""

import shlex
from pathlib import Path

import pytest

from monstermq.postgres_tools import address, dump_command, restore_command
from monstermq_shared.config.postgres_urls import ConnectionSettings, parse_url

URLS = [
    "jdbc:postgresql://localhost:5432/monster?user=system&password=manager",
    "postgresql://a%2Fb:manager@db1:5433,[2001:db8::1],db3/o%27dd%20%25%3F",
    "postgresql://system:manager@%2Fvar%2Frun%2Fpostgresql:5433/monster",
    "postgresql://system:manager@h/m?sslmode=verify-full&sslrootcert=/etc/ca.pem"
    "&sslcert=my%20cert.pem&sslkey=k%26.pem&sslpassword=manager",
    "postgresql://system:manager@h/m?sslmode=verify-full",
    "postgresql://system:manager@h/m?sslmode=disable&options=-c%20work_mem%3D5MB",
]


def where(settings: ConnectionSettings) -> tuple[object, ...]:
    tls = settings.tls
    return (
        settings.hosts,
        settings.database,
        settings.user,
        settings.options,
        (tls.mode, tls.ca_file, tls.cert_file, tls.key_file),
    )


@pytest.mark.parametrize("url", URLS)
def test_an_address_leads_where_the_broker_goes(url: str) -> None:
    settings = parse_url(url)
    written = address(settings)
    assert where(parse_url(written)) == where(settings)
    assert "manager" not in written


def test_a_copy_of_several_hosts_is_taken_from_the_one_that_takes_writes() -> None:
    written = address(parse_url("postgresql://u@a,b/m"))
    assert written == "postgresql://u@a:5432,b:5432/m?target_session_attrs=read-write"


def test_a_line_can_be_pasted_into_a_shell() -> None:
    settings = parse_url(URLS[1])
    name = Path("my 'copy'; $(x)")
    assert shlex.split(dump_command(settings, name)) == [
        "pg_dump",
        "--format=custom",
        f"--file={name}",
        f"--dbname={address(settings)}",
    ]
    assert shlex.split(restore_command(settings, name))[-1] == str(name)


@pytest.mark.parametrize(
    ("written", "pattern", "name"),
    [
        ("Plant", '--schema="plant"', "--schema=plant"),
        (" plant , public", '--schema="plant"', "--schema=plant"),
        ("%22Odd,%20Name%22,public", '--schema="Odd, Name"', "--schema=Odd, Name"),
        ("%22$user%22,public", '--schema="u"', "--schema=u"),
        ("%22a%22%22b%22", '--schema="a""b"', '--schema=a"b'),
    ],
)
def test_only_the_schema_that_the_url_names_is_copied(
    written: str, pattern: str, name: str
) -> None:
    settings = parse_url(f"postgresql://u@h/m?currentSchema={written}")
    assert shlex.split(dump_command(settings, Path("x")))[2] == pattern
    assert shlex.split(restore_command(settings, Path("x")))[5] == name
