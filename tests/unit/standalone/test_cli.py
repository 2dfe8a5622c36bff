"""The command line: what each spelling means, and what is refused."""

import io
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.broker import users_environment
from tests.support.certificates import CertificateAuthority, Identity

from monstermq.cli import Check, Invocation, Run, Show, check, parse_arguments, summary
from monstermq_shared.config import load_config
from monstermq_shared.errors import ConfigError, StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.operation.form import form


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refusal(*arguments: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_arguments(arguments)
    return str(caught.value)


def test_nothing_runs_with_what_the_configuration_says() -> None:
    assert parse_arguments([]) == Run(config=None, log_level=None, cluster=False)


@pytest.mark.parametrize("dash", ["-", "--"])
def test_one_dash_or_two_mean_the_same(dash: str) -> None:
    arguments = [f"{dash}config", "a.yaml", f"{dash}log", "FINE", f"{dash}cluster"]
    assert parse_arguments(arguments) == Run(config=Path("a.yaml"), log_level=10, cluster=True)
    arguments = [f"{dash}check", f"{dash}config=a.yaml"]
    assert parse_arguments(arguments) == Check(config=Path("a.yaml"), cluster=False)


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("ALL", 1),
        ("FINEST", 5),
        ("FINER", 8),
        ("FINE", 10),
        ("CONFIG", 15),
        ("INFO", 20),
        ("WARNING", 30),
        ("SEVERE", 40),
        ("OFF", 60),
        ("info", 20),
        ("800", 20),
        ("-2147483648", 1),
    ],
)
def test_log_levels_are_the_originals(level: str, expected: int) -> None:
    invocation = parse_arguments(["-log", level])
    assert isinstance(invocation, Run)
    assert invocation.log_level == expected


@pytest.mark.parametrize("help_", ["-h", "-help", "--help"])
def test_help_comes_before_anything_else_and_names_every_option(help_: str) -> None:
    invocation = parse_arguments(["-nonsense", "x", help_])
    assert isinstance(invocation, Show)
    for option in (
        "-config",
        "-log",
        "-cluster",
        "-help",
        "--check",
        "--version",
        "db backup",
        "db restore",
        "db recover",
        "db init",
        "db adopt",
        "db skip-gap",
        "status",
        "quarantine list",
        "quarantine show",
        "quarantine retry",
        "quarantine discard",
        "tail",
        "replay",
    ):
        assert option in invocation.text


def test_the_version_is_shown() -> None:
    invocation = parse_arguments(["--version"])
    assert isinstance(invocation, Show)
    assert invocation.text == f"monstermq {version('monstermq')} ({form()})\n"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["-confg", "a"], "unknown argument -confg; did you mean -config?"),
        (["--clutser"], "unknown argument --clutser; did you mean --cluster?"),
        (["-c", "a"], "unknown argument -c; did you mean -config FILE?"),
        (["-conf", "a"], "unknown argument -conf; did you mean -config?"),
        (["-l", "INFO"], "unknown argument -l; did you mean -log?"),
        (["-config", "a", "db", "backup", "x"], "db comes first: monstermq db backup FILE"),
        (["-conf=a"], "unknown argument -conf=a; did you mean -config?"),
        (["config.yaml"], "unknown argument config.yaml; did you mean -config config.yaml?"),
        (["xyz"], "unknown argument xyz; see monstermq -help"),
        (["-config"], "-config/--config: expected one argument"),
        (["-log"], "-log/--log: expected one argument"),
        (["-log", "LOUD"], "-log must be a number or one of ALL, FINEST"),
        (["--check", "-log", "LOUD"], "-log must be a number or one of ALL, FINEST"),
        (["db"], "monstermq db backup FILE"),
        (["db", "bakup", "x"], "monstermq db backup FILE"),
        (["db", "restore"], "required: BACKUP"),
        (["db", "recover", "x"], "required: NEWFILE"),
        (["db", "recover", "x", "y", "-config", "z"], "unknown argument -config"),
        (["db", "restore", "x", "--force"], "unknown argument --force"),
        (["db", "backup"], "required: FILE"),
        (["db", "backup", "a", "b"], "unknown argument b"),
        (["db", "init", "x"], "unknown argument x"),
        (["db", "adopt", "x"], "unknown argument x"),
        (["db", "skip-gap", "x"], "unknown argument x"),
        (["-config", "a", "status"], "status comes first: monstermq status -config FILE"),
        (["status", "--jsn"], "did you mean --json?"),
        (["quarantine"], "monstermq quarantine list, monstermq quarantine show POSITION"),
        (["quarantine", "show"], "required: POSITION"),
        (["quarantine", "retry"], "required: POSITION or all"),
        (["-config", "a", "tail"], "tail comes first: monstermq tail FILTER -config FILE"),
        (["tail", "a", "b"], "unknown argument b"),
        (["tail", "--from", "yesterday"], "'yesterday' is no time: write 2026-01-15T10:30:00Z"),
        (["tail", "--from", "-10x"], "'-10x' is no time"),
        (["tail", "--from", "2026-02-30"], "is no time"),
        (["tail", "--from", "-99999999999y"], "is no time"),
        (["tail", "--to", "3:17"], "'3:17' is no time"),
        (["tail", "--from"], "expected one argument"),
        (["tail", "--payload", "xml"], "'xml' is none of auto, text, json, hex, base64"),
        (["tail", "--limit", "0"], "is not a number from 1 to"),
        (["tail", "--qos", "3"], "is not 0, 1 or 2"),
        (["replay"], "required: FILTER or FILE"),
        (["replay", "a", "--speed", "0"], "is not a number above 0"),
        (["replay", "a", "--speed", "nan"], "is not a number above 0"),
        (["replay", "a", "--retain", "maybe"], "is not yes or no"),
        (["replay", "a", "--skip", "-1"], "is not a number from 0"),
        (["replay", "a", "--skip", "0" * 16 + "9" * 16], "is not a number from 0"),
        (["replay", "a", "--form", "-1m"], "did you mean --from?"),
        (["quarantine", "list", "--limit", "0"], "is not a number from 1 to"),
        (["quarantine", "list", "-limit", "x"], "is not a number from 1 to"),
    ],
)
def test_a_wrong_command_line_is_refused_with_the_nearest_right_one(
    arguments: list[str], problem: str
) -> None:
    assert problem in refusal(*arguments)


ARGUMENTS = st.sampled_from(
    [
        "-config",
        "--log",
        "-cluster",
        "db",
        "backup",
        "restore",
        "recover",
        "INFO",
        "--",
        "-",
        "=",
        "adopt",
        "init",
        "status",
        "quarantine",
        "list",
        "show",
        "retry",
        "tail",
        "replay",
        "--from",
        "-10m",
        "--speed",
        "--limit",
        "1:2",
    ]
)


@given(st.lists(ARGUMENTS | st.text(max_size=8), max_size=5))
def test_any_command_line_is_understood_or_refused_with_a_config_error(
    arguments: list[str],
) -> None:
    try:
        invocation = parse_arguments(arguments)
    except ConfigError:
        return
    assert isinstance(invocation, Invocation)


# --check


def checked(text: str, *, cluster: bool = False) -> str:
    Path("c.yaml").write_text(text)
    output = io.StringIO()
    assert check(Check(config=Path("c.yaml"), cluster=cluster), {}, output) == 0
    return output.getvalue()


def test_a_good_configuration_is_ok_with_a_summary_and_its_warnings() -> None:
    assert checked(
        "TCP: 1883\nWS: 9000\nSessionStoreType: SQLITE\nRetainedStoreType: MEMORY\n"
        "SQLite: {Path: x.db}\n"
        "ArchiveGroups: [{Name: MCP, TopicFilter: ['#'], ArchiveType: SQLITE}]\n"
        "MCP: {Enabled: true}\n"
    ).splitlines() == [
        "OK: c.yaml",
        "  listens on 0.0.0.0: TCP 1883, WS 9000",
        "  sessions in SQLITE, retained messages in MEMORY",
        "  archive group MCP: #, last values in NONE, history in SQLITE",
        "  MCP on 0.0.0.0: port 3000, everybody reads",
        "  SQLite in x.db",
        "warning: there is no authentication: whoever reaches 0.0.0.0 can read and write every "
        "topic; set BindAddress: 127.0.0.1, or let a firewall decide",
        "warning: MCP.Token is not set: whoever reaches port 3000 of 0.0.0.0 can read every topic "
        "and its history; set MCP.Token, or MCP.BindAddress: localhost",
    ]


def test_the_check_tells_where_postgresql_is_and_never_the_password() -> None:
    said = checked(
        "BindAddress: localhost\nSessionStoreType: SQLITE\nRetainedStoreType: POSTGRES\n"
        "SQLite: {Path: x.db}\n"
        "Postgres: {Url: 'postgresql://me:s3cret@db1,[::1]:5433/m?sslmode=require', Pass: s3cret}\n"
    )
    assert said.splitlines()[3:] == [
        "  SQLite in x.db",
        "  PostgreSQL at db1:5432,[::1]:5433/m, as me",
    ]
    assert "s3cret" not in said


def test_the_check_names_the_topics_of_others_that_are_read() -> None:
    said = checked(
        "BindAddress: localhost\nSessionStoreType: SQLITE\nRetainedStoreType: SQLITE\n"
        "Kafka: {Servers: k1, Ingress: [{Topic: orders}, {Topic: weather, Format: RAW}]}\n"
    )
    assert "  records of the Kafka topic orders become messages\n" in said
    assert "  records of the Kafka topic weather become messages\n" in said
    assert "  Kafka at k1\n" in said


def test_the_summary_tells_where_kafka_is_and_what_goes_through_it() -> None:
    def last_line(text: str) -> str:
        stores = "SessionStoreType: POSTGRES\nRetainedStoreType: POSTGRES\n"
        Path("c.yaml").write_text(stores + text)
        return summary(load_config(Path("c.yaml"), {}))[-1]

    servers = "Servers: 'k1,k2:9093'"
    assert last_line(f"Kafka: {{{servers}}}\n").startswith("PostgreSQL at ")
    bus = f"Kafka: {{{servers}, Bus: {{Enabled: true}}}}\n"
    assert last_line(bus) == "Kafka at k1,k2:9093, every message through topic monster"
    archive = f"Kafka: {{{servers}}}\nArchiveGroups: [{{Name: a, ArchiveType: KAFKA}}]\n"
    assert last_line(archive) == "Kafka at k1,k2:9093"


def test_without_a_file_the_embedded_default_is_checked() -> None:
    output = io.StringIO()
    assert check(Check(config=None, cluster=False), {}, output) == 0
    assert output.getvalue().startswith("OK: the embedded default\n")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("TPC: 1\n", "did you mean TCP"),
        ("SessionStoreType: CRATEDB\n", "well-formed, but the broker would not start"),
        ("SessionStoreType: SQLITE\nTCPS: 8883\n", "TCPS: a TLS port needs a certificate"),
    ],
)
def test_a_configuration_the_broker_would_not_start_with_is_refused(
    text: str, problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        checked(text)


def served_by(identity: Identity) -> str:
    return (
        "BindAddress: 127.0.0.1\nTCP: 0\nTCPS: 8883\nSessionStoreType: SQLITE\n"
        "RetainedStoreType: SQLITE\nSQLite: {Path: x.db}\n"
        f"TLS: {{CertFile: {identity.cert_file.name}, KeyFile: {identity.key_file.name}}}\n"
    )


def test_the_check_loads_the_certificates_and_warns_of_what_they_say(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    assert "warning" not in checked(served_by(authority.issue("server")))
    old = authority.issue("old", not_after=datetime.now(UTC) - timedelta(days=1))
    assert "warning: TLS.CertFile: the certificate of CN=old expired" in checked(served_by(old))


def test_the_check_refuses_certificates_the_broker_would_not_start_with(tmp_path: Path) -> None:
    server = CertificateAuthority(tmp_path).issue("server")
    text = served_by(server)
    server.key_file.unlink()
    with pytest.raises(StartupError, match=f"TLS.KeyFile {server.key_file} cannot") as caught:
        checked(text)
    assert caught.value.exit_code == ExitCode.TLS
    assert ended("-config", "c.yaml", "--check")[0] == ExitCode.TLS
    checked(text.replace("TCPS: 8883", "WS: 9000"))


def test_the_check_loads_the_certificates_that_lead_to_kafka(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    text = (
        "BindAddress: 127.0.0.1\nSessionStoreType: SQLITE\nRetainedStoreType: SQLITE\n"
        "SQLite: {Path: x.db}\nArchiveGroups: [{Name: a, ArchiveType: KAFKA}]\n"
        f"Kafka: {{Servers: k, Security: {{Protocol: SSL, CaFile: {authority.cert_file}}}}}\n"
    )
    assert "warning" not in checked(text)
    authority.cert_file.unlink()
    with pytest.raises(StartupError, match=r"Kafka\.Security\.CaFile: .* cannot be used") as caught:
        checked(text)
    assert caught.value.exit_code == ExitCode.TLS
    checked(text.replace("KAFKA", "SQLITE"))


# The process


def ended(*arguments: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "monstermq", *arguments]
    done = subprocess.run(
        command,
        env=users_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_process_ends_with_the_documented_code_and_no_traceback() -> None:
    assert ended("--check")[:2] == (ExitCode.OK, checked_default())
    code, _, error = ended("-confg", "x")
    assert code == ExitCode.CONFIG
    assert error.startswith("monstermq: unknown argument -confg; did you mean -config?")
    code, _, error = ended("-config", "missing.yaml")
    assert code == ExitCode.CONFIG
    assert error.startswith("monstermq: missing.yaml: cannot be read")
    code, _, error = ended("db", "backup", "copy.db")
    assert code == ExitCode.FAILURE
    assert error == "monstermq: data/monstermq.db: there is no such database file\n"


def checked_default() -> str:
    output = io.StringIO()
    check(Check(config=None, cluster=False), {}, output)
    return output.getvalue()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["-config", "a\0b"], "-config"),
        (["db", "backup", "a\0b"], "FILE"),
        (["db", "restore", "a\0b"], "BACKUP"),
        (["db", "recover", "a\0b", "c"], "FILE"),
        (["db", "recover", "a", "b\0c"], "NEWFILE"),
    ],
)
def test_a_name_that_no_file_can_have_is_refused_by_the_arguments_name(
    arguments: list[str], name: str
) -> None:
    assert f"{name}: contains a NUL character" in refusal(*arguments)
