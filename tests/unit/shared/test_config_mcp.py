"""The section MCP of the configuration."""

from pathlib import Path

import pytest

from monstermq_shared.config import LoadedConfig, load_config
from monstermq_shared.errors import ConfigError

GOOD = "0123456789abcdef"
BASE = "SessionStoreType: SQLITE\nRetainedStoreType: SQLITE\nSQLite: {Path: x.db}\n"
GROUP = "ArchiveGroups: [{Name: MCP, ArchiveType: SQLITE}]\n"


def load(folder: Path, mcp: str, rest: str = "") -> LoadedConfig:
    path = folder / "c.yaml"
    path.write_text(f"{BASE}{rest}MCP: {{{mcp}}}\n")
    return load_config(path, {})


@pytest.mark.parametrize(
    ("mcp", "problem"),
    [
        ("AllowPublish: true", "MCP.AllowPublish needs MCP.WriteToken or MCP.WriteTokenFile"),
        (f"Token: {GOOD}, TokenFile: a", "MCP.Token and MCP.TokenFile say the same"),
        (f"WriteToken: {GOOD}, WriteTokenFile: a", "MCP.WriteToken and MCP.WriteTokenFile say"),
        (f"Token: {GOOD}, WriteToken: {GOOD}", "MCP.WriteToken is MCP.Token too"),
        ("ArchiveGroup: mpc", "MCP.ArchiveGroup mpc is no enabled archive group; did you mean MCP"),
        ("Token: short", "MCP.Token must be 16 to 1000 letters"),
        ("Token: 'with spaces in the middle'", "MCP.Token must be 16 to 1000 letters"),
        ("Hosts: ['broker:3000']", "MCP.Hosts[0] must be a host name such as broker.example.com"),
        ("Hosts: ['*']", "MCP.Hosts[0] must be a host name"),
        ("Tokens: x", "MCP.Tokens is not a key; did you mean Token"),
    ],
)
def test_what_contradicts_itself_is_refused_with_the_fix(
    tmp_path: Path, mcp: str, problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, mcp, GROUP)
    assert problem in str(caught.value)
    assert GOOD not in str(caught.value)
    assert "spaces in" not in str(caught.value)


def test_a_group_is_named_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no enabled archive group; there is none"):
        load(tmp_path, "ArchiveGroup: MCP")


def warnings(folder: Path, mcp: str, rest: str = "") -> list[str]:
    return [warning for warning in load(folder, mcp, rest).warnings if "MCP" in warning]


def test_an_open_server_that_others_reach_is_warned_of(tmp_path: Path) -> None:
    (warning,) = warnings(tmp_path, "Enabled: true")
    assert "whoever reaches port 3000 of 0.0.0.0 can read every topic" in warning
    assert warnings(tmp_path, "Enabled: true, BindAddress: localhost") == []
    assert warnings(tmp_path, "Enabled: true", "BindAddress: '::1'\n") == []
    assert warnings(tmp_path, f"Enabled: true, Token: {GOOD}") == []
    assert warnings(tmp_path, "Enabled: true, TokenFile: a") == []
    assert warnings(tmp_path, "Enabled: true, Port: 0") == []


def test_a_write_token_without_the_switch_is_warned_of(tmp_path: Path) -> None:
    (warning,) = warnings(tmp_path, f"WriteToken: {GOOD}")
    assert "MCP.AllowPublish is false" in warning


@pytest.mark.parametrize("name", ["MONSTERMQ_MCP__TOKEN", "monstermq_mcp__write_token_file"])
def test_an_empty_variable_for_a_token_opens_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "c.yaml").write_text(BASE)
    with pytest.raises(ConfigError, match=f"{name} is empty: give it a token, or unset it"):
        load_config(tmp_path / "c.yaml", {name: ""})


def test_tokens_are_not_shown(tmp_path: Path) -> None:
    assert GOOD not in repr(load(tmp_path, f"Token: {GOOD}").config)


def test_host_names_are_compared_in_lower_case(tmp_path: Path) -> None:
    assert load(tmp_path, "Hosts: [Broker.LAN]").config.mcp.hosts == ("broker.lan",)
