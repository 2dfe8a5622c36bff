"""The schema, the reference and the examples against the models, and hostile mappings."""

import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from monstermq_shared.config import (
    LOG_LEVEL_NAMES,
    BrokerConfig,
    check_runnable,
    embedded_default,
    load_config,
    parse_log_level,
)
from monstermq_shared.config.checks import postgres_connection, stores_of
from monstermq_shared.config.document import Document, Value
from monstermq_shared.config.fields import Section
from monstermq_shared.config.limits import fitted
from monstermq_shared.config.postgres_urls import describe
from monstermq_shared.config.reference import (
    REFERENCE_FILE,
    SCHEMA_FILE,
    render_reference,
    render_schema,
    settings_schema,
)
from monstermq_shared.config.validation import validate
from monstermq_shared.errors import ConfigError
from monstermq_shared.exit_codes import ExitCode

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))
VALIDATOR = jsonschema.Draft202012Validator(settings_schema())


def test_the_files_in_the_tree_are_what_write_schemas_writes() -> None:
    fix = "run scripts/write-schemas"
    assert (ROOT / SCHEMA_FILE).read_text() == render_schema(), fix
    reference = (ROOT / REFERENCE_FILE).read_text()
    assert reference == render_reference(reference), fix


def test_a_reference_that_lost_its_place_for_the_keys_is_refused() -> None:
    with pytest.raises(ValueError, match="has no <!-- keys"):
        render_reference("# Configuration\n")


def test_write_schemas_leaves_a_current_tree_alone(tmp_path: Path) -> None:
    before = [(ROOT / path).read_bytes() for path in (SCHEMA_FILE, REFERENCE_FILE)]
    for path in (SCHEMA_FILE, REFERENCE_FILE):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_bytes((ROOT / path).read_bytes())
    module = "monstermq_shared.config.reference"
    subprocess.run([sys.executable, "-m", module], cwd=tmp_path, check=True)
    assert [(tmp_path / path).read_bytes() for path in (SCHEMA_FILE, REFERENCE_FILE)] == before


def test_the_schema_is_a_schema_with_a_description_for_every_key() -> None:
    schema = settings_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for name, definition in (("BrokerConfig", schema), *schema["$defs"].items()):
        assert definition["additionalProperties"] is False
        for key, field in definition["properties"].items():
            assert field.get("description"), f"{name}.{key}"


def test_the_schemas_own_defaults_satisfy_it() -> None:
    schema = settings_schema()
    for definition in (schema, *schema["$defs"].values()):
        for field in definition["properties"].values():
            if "default" in field:
                jsonschema.Draft202012Validator({**field, "$defs": schema["$defs"]}).validate(
                    field["default"]
                )


def sections(model: type[Section] = BrokerConfig) -> set[type[Section]]:
    known = {model}
    for field in model.model_fields.values():
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, Section):
                known |= sections(kind)
    return known


def test_every_key_every_exit_code_and_every_log_level_is_in_the_reference() -> None:
    text = (ROOT / REFERENCE_FILE).read_text()
    for section in sections():
        for field in section.model_fields.values():
            assert f"| `{field.alias}` |" in text
    for code in ExitCode:
        assert f"| {code.value} | `{code.name}` |" in text
    for name in LOG_LEVEL_NAMES:
        if name != "OFF":
            assert f"| {parse_log_level(name)}" in text


# Examples


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT / "examples"))


def test_the_originals_examples_are_there() -> None:
    assert {shown(path) for path in EXAMPLES} == {
        "config.yaml",
        "config-sqlite.yaml",
        "config-postgres.yaml",
        "config-mixed.yaml",
        "config-memory.yaml",
        "config-tls.yaml",
        "config-limits.yaml",
        "config-kafka.yaml",
        "config-kafka-ingress.yaml",
        "config-kafka-bus.yaml",
        "original/config.yaml",
        "original/config-postgres.yaml",
        "original/config-hazelcast.yaml",
        "original/config-kafka.yaml",
        "original/config-kafka-bus.yaml",
    }


def test_the_document_of_the_examples_names_them_all_and_nothing_else() -> None:
    text = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\(([\w/.-]+\.yaml)\)", text)) == {shown(path) for path in EXAMPLES}


@pytest.mark.parametrize("path", EXAMPLES, ids=shown)
def test_an_example_loads_and_an_editor_finds_it_valid(path: Path) -> None:
    text = path.read_text()
    schema = "../" * len(path.relative_to(ROOT).parent.parts) + "schemas/settings.json"
    assert text.startswith(f"# yaml-language-server: $schema={schema}\n")
    assert (path.parent / schema).resolve() == ROOT / SCHEMA_FILE
    load_config(path, {})
    VALIDATOR.validate(yaml.safe_load(text))


def test_the_example_to_begin_with_is_the_embedded_default_and_in_the_readme() -> None:
    path = ROOT / "examples/config.yaml"
    loaded = load_config(path, {})
    assert loaded.config == embedded_default()
    assert loaded.warnings == ()
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)
    assert written in [yaml.safe_load(block) for block in blocks]


def test_a_snippet_with_a_tls_port_closes_the_plain_one() -> None:
    text = (ROOT / "docs" / "tls.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    secured = [block for block in blocks if "TCPS" in block or "TLS" in block]
    assert secured
    assert [block for block in secured if block.get("TCP") != 0] == []


def refusal(path: Path) -> list[str]:
    """Return why the broker would not start, a line for each reason."""
    try:
        check_runnable(load_config(path, {}))
    except ConfigError as exc:
        return str(exc).splitlines()
    return []


REFUSED = {
    "original/config.yaml": ["TCPS and WSS: a TLS port needs a certificate"],
    "original/config-hazelcast.yaml": ["RetainedStoreType: HAZELCAST is not available"],
}


@pytest.mark.parametrize("path", EXAMPLES, ids=shown)
def test_an_example_starts_or_is_refused_for_what_the_document_says(path: Path) -> None:
    problems = refusal(path)
    expected = REFUSED.get(shown(path), [])
    assert len(problems) == len(expected)
    for problem, beginning in zip(problems, expected, strict=True):
        assert beginning in problem
    text = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    (row,) = (line for line in text.splitlines() if line.startswith(f"| [{shown(path)}]"))
    assert ("| starts" in row) == (not problems)


def test_the_quick_start_with_postgresql_is_the_first_example_in_another_database() -> None:
    files = [ROOT / "examples" / name for name in ("config.yaml", "config-postgres.yaml")]
    loaded = load_config(files[1], {})
    assert loaded.warnings == ()
    first, second = (
        path.read_text(encoding="utf-8").partition("ArchiveGroups:")[2] for path in files
    )
    groups = [yaml.safe_load("ArchiveGroups:" + text)["ArchiveGroups"] for text in (first, second)]
    assert yaml.safe_dump(groups[1]) == yaml.safe_dump(groups[0]).replace("SQLITE", "POSTGRES")
    assert {str(store) for _, store in stores_of(loaded.config)} == {"POSTGRES"}
    settings = postgres_connection(loaded.config)
    assert (describe(settings), settings.user) == ("localhost:5432/monster", "system")


def test_the_kafka_bus_has_the_tables_of_the_quick_start_with_postgresql() -> None:
    first, second = (
        load_config(ROOT / "examples" / name, {})
        for name in ("config-postgres.yaml", "config-kafka-bus.yaml")
    )
    assert second.warnings == ()
    assert list(stores_of(second.config)) == list(stores_of(first.config))
    assert second.config.archive_groups == first.config.archive_groups
    assert second.config.postgres == first.config.postgres


def test_the_limits_example_shows_every_limit() -> None:
    shown = yaml.safe_load((ROOT / "examples/config-limits.yaml").read_text())
    for name in ("Limits", "Queue", "Metrics", "Sys", "Log"):
        assert set(shown[name]) == set(settings_schema()["$defs"][name]["properties"])


# Hostile mappings

KEYS = sorted(
    {str(field.alias) for section in sections() for field in section.model_fields.values()}
    | {"TPCS", "<<", "", "x"}
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from(["SQLITE", "MEMORY", "7d", "#", "a/+", "a/#/b", "DROP_OLDEST", "::1", ""])
    | st.text(max_size=8)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=12,
)
GROUP = st.fixed_dictionaries(
    {"Name": st.sampled_from(["a", "A", "b"])},
    optional={
        "Enabled": st.booleans(),
        "TopicFilter": st.lists(st.sampled_from(["#", "a/+", "a/#/b", ""]), max_size=2),
        "ArchiveType": st.sampled_from(["SQLITE", "KAFKA", "x"]),
        "KafkaTopic": st.sampled_from(["a", "a.{1}", "{1}", "{x}", "{", "__a", ""]),
        "KafkaKey": st.sampled_from(["{1}/{clientId}", "{topic}", "}", 1]),
        "LastValRetention": st.sampled_from(["7d", "7x"]),
    },
)
KAFKA = st.fixed_dictionaries(
    {},
    optional={
        "Servers": st.sampled_from(["k", "k:9092,[::1]:1", "k:x", ","]),
        "Ingress": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "Topic": st.sampled_from(["a", "b", "a-sessions", "", "/"]),
                    "TopicFrom": st.sampled_from(["key", "header:x", "header:", "{key", "{1}"]),
                    "Group": st.sampled_from(["a", "", 1]),
                    "DeadLetterTopic": st.sampled_from(["a", "b"]),
                },
            ),
            max_size=3,
        ),
        "Security": st.dictionaries(
            st.sampled_from(["Protocol", "User", "Pass", "CaFile"]),
            st.sampled_from(["SSL", "SASL_SSL", "a.jks", "x"]),
        ),
        "Bus": st.fixed_dictionaries(
            {"Enabled": st.booleans()},
            optional={
                "Topic": st.sampled_from(["a", "a-sessions", "a.b", "", "__x"]),
                "LatenessS": st.integers(0, 10**5),
                "RetentionHours": st.integers(-1, 50),
                "Replication": st.integers(0, 4),
                "MinInsyncReplicas": st.integers(0, 4),
                "ProducerConfig": st.dictionaries(
                    st.sampled_from(["acks", "batch.size", "max.request.size", "retries", "x"]),
                    st.sampled_from(["all", 0, 1, "1024", 10**9, True, 1.5, "lz4", [], None]),
                    max_size=2,
                ),
            },
        ),
    },
)
NEARLY = st.fixed_dictionaries(
    {"SessionStoreType": st.sampled_from(["SQLITE", "POSTGRES", "x"])},
    optional={
        "TCP": st.sampled_from([0, 1, 1883, 9464, "x"]),
        "TCPS": st.sampled_from([0, 1, 8883]),
        "RetainedStoreType": st.sampled_from(["MEMORY", "SQLITE", "POSTGRES"]),
        "Kafka": KAFKA,
        "MaxMessageSizeKb": st.integers(0, 10**6),
        "ArchiveGroups": st.lists(GROUP, max_size=3),
        "Limits": st.dictionaries(
            st.sampled_from(["OutboxKb", "InFlightPerClient", "PendingMessagesPerClient"]),
            st.integers(0, 10**9),
        ),
        "TLS": st.dictionaries(st.sampled_from(["KeyStore", "CertFile"]), st.just("a.jks")),
    },
)


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6))
def test_any_mapping_is_a_configuration_or_a_config_error(values: dict[str, Value]) -> None:
    try:
        config = validate(Document(values, {}))
    except ConfigError:
        return
    assert isinstance(config, BrokerConfig)


@settings(max_examples=60)
@given(values=NEARLY | st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3), on=st.booleans())
def test_any_file_loads_and_runs_or_is_refused_with_a_config_error(
    values: dict[str, object], on: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("fuzz") / "c.yaml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    try:
        loaded = load_config(file, {}, cluster=on)
        check_runnable(loaded)
    except ConfigError:
        return
    config = loaded.config
    assert fitted(config.limits, config.max_message_size_kb) == config.limits


@given(st.text(max_size=40))
def test_any_environment_is_taken_or_refused_with_a_config_error(text: str) -> None:
    for name in ("MONSTERMQ_TCP", "MONSTERMQ_ARCHIVEGROUPS", "MONSTERMQ_QUEUE", "MONSTERMQ_Log"):
        with suppress(ConfigError):
            load_config(ROOT / "examples/config-sqlite.yaml", {name: text})
