"""Every error MonsterMQ raises on purpose, in one tree.

::

    MonsterError
    ├── ConfigError          the configuration contradicts itself; names the key and the fix
    ├── StartupError         the process cannot start; carries its exit code
    ├── InvalidTopic         a topic name or filter MQTT forbids; carries the clause
    ├── InvalidRecord        bytes that are not a bus record
    ├── BusError             the log said no
    │   ├── BusUnavailable   worth repeating: too much on its way, closed, or not reached
    │   ├── BusRefused       the log will not take this record, now or later
    │   │   └── BusUntimely  but perhaps another with another time: a clock is off
    │   ├── BusLost          the log is not the one it was
    │   ├── BusGap           what should be read next is not there; never passed over in silence
    │   └── UnknownFact      a later release wrote it; the partition stops, loudly (R6)
    ├── StoreError           a database said no; the driver's error is the ``__cause__``
    │   ├── StoreUnavailable worth repeating: locked, full, restarting
    │   │   └── StoreFull    but whoever fills it by himself had better stop
    │   ├── StoreConflict    somebody else owns the database now; never repeated
    │   │   └── TenureEnded  or a command has put other rows there, and nobody owns them yet
    │   └── StoreDamaged     corrupt, or of an unknown schema; never emptied, never repeated
    └── QueryError           a question to the data has no answer; the message is for who asked
        ├── QueryRefused     asked wrongly: the message says what to write instead
        ├── NotSupported     this store cannot answer such a question, however it is asked
        └── QueryTimedOut    too much work: the message names the database, and how to ask for less

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
        exit_code: The process's exit status, see ``docs/configuration.md``.
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


class BusError(MonsterError):
    """The log refused."""


class BusUnavailable(BusError):
    """The log cannot do it now. Repeat it with the same stamp: what it has counts once."""


class BusGap(BusError):
    """What a reader should read next is not there. It goes on only by its caller's decision.

    Args:
        partition: Where.
        expected: The offset it should have read next.
        found: The offset from which on everything is there: where it may go on.
        lost: The most records it can have missed; None if offsets do not tell: the log began anew
            (a new boot of the internal bus: a gap without a loss), or ends below ``expected``
            (positions of another log).
    """

    def __init__(self, partition: int, expected: int, found: int, *, lost: int | None) -> None:
        missed = "the log began anew" if lost is None else f"at most {lost} records are missed"
        super().__init__(
            f"partition {partition}: offset {expected} is not in the log, "
            f"which can be read from {found}: {missed}"
        )
        self.partition = partition
        self.expected = expected
        self.found = found
        self.lost = lost


class BusRefused(BusError):
    """The log will not take a record: it is too old, too new or too large.

    Whether it stands there all the same is not known, because an earlier try may have reached the
    log: its sequence is never used again (R1).
    """


class BusUntimely(BusRefused):
    """A record is too old or too new. The same may be taken with another time, as another record.

    A clock is off, of this machine or of the log's, by more than the log admits (R7).
    """


class BusLost(BusError):
    """The log is gone, or has other partitions: positions in it mean nothing any more."""


class UnknownFact(BusError):
    """A control record that a later release wrote. Who passed it over would go wrong in silence.

    So whoever reads it stops that partition and names the position (R6); the fix is to bring this
    process to the release that wrote it.
    """


class StoreError(MonsterError):
    """A database refused. The driver's own error is the ``__cause__``."""


class StoreUnavailable(StoreError):
    """The database cannot do it now; the same call may succeed later."""


class StoreFull(StoreUnavailable):
    """It has no room for what is written; it has again once somebody has made some."""


class StoreConflict(StoreError):
    """Another process has written to this database since we opened it; we must stop."""


class TenureEnded(StoreConflict):
    """A command has ended the right to commit, and nobody else has it: it may be begun again."""


class StoreDamaged(StoreError):
    """The database is corrupt, or its schema is one we do not know. Nothing was changed."""


class QueryError(MonsterError):
    """A question has no answer. The message is a sentence for whoever asked."""


class QueryRefused(QueryError):
    """The question is wrong. The message says what to write instead."""


class NotSupported(QueryError):
    """The store cannot answer such a question. The message names the store and what can."""


class QueryTimedOut(QueryError):
    """The database has not answered in time. The message names it, and how to ask for less."""
