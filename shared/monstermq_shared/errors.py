"""Every error MonsterMQ raises on purpose, in one tree.

::

    MonsterError
    ├── ConfigError          the configuration contradicts itself; names the key and the fix
    ├── StartupError         the process cannot start; carries its exit code
    ├── InvalidTopic         a topic name or filter MQTT forbids; carries the clause
    ├── InvalidRecord        bytes that are no bus record
    └── StoreError           a database said no; the driver's error is the ``__cause__``
        ├── StoreUnavailable worth repeating: locked, full, restarting
        ├── StoreConflict    somebody else owns the database now; never repeated
        └── StoreDamaged     corrupt, or of an unknown schema; never emptied, never repeated

Protocol errors live with the protocol, in ``monstermq_edge.mqtt.errors``.
"""


class MonsterError(Exception):
    """The base of all errors below."""


class ConfigError(MonsterError):
    """The configuration is wrong. The message names the key and says what to write instead."""


class StartupError(MonsterError):
    """The process cannot start.

    Args:
        message: What is wrong and what to do about it.
        exit_code: The process's exit status, see the README's table.
    """

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class InvalidTopic(MonsterError):
    """A topic name or filter that MQTT forbids.

    Args:
        message: What is wrong with it.
        clause: The normative statement it breaks, such as ``MQTT-4.7.1-2``.
    """

    def __init__(self, message: str, *, clause: str | None = None) -> None:
        super().__init__(message)
        self.clause = clause


class InvalidRecord(MonsterError):
    """The bytes are not a bus record of a version we know."""


class StoreError(MonsterError):
    """A database refused. The driver's own error is the ``__cause__``."""


class StoreUnavailable(StoreError):
    """The database cannot do it now; the same call may succeed later."""


class StoreConflict(StoreError):
    """Another process has written to this database since we opened it; we must stop."""


class StoreDamaged(StoreError):
    """The database is corrupt, or its schema is one we do not know. Nothing was changed."""
