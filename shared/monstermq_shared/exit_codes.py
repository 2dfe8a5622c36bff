"""How the process ends: one number per cause, so that a supervisor can tell them apart."""

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit status of every MonsterMQ command. The numbers never change their meaning."""

    OK = 0
    """It did what was asked, or was asked to stop."""
    FAILURE = 1
    """Anything without a number of its own; the log says what."""
    CONFIG = 2
    """The configuration or the command line is wrong; nothing was started."""
    PORT_IN_USE = 3
    """A port is taken by another process, or may not be opened."""
    STORE_UNWRITABLE = 4
    """The database's folder or file cannot be written."""
    STORE_DAMAGED = 5
    """The database is corrupt, or of a schema this release does not know. Nothing was changed."""
    STORE_IN_USE = 6
    """Another broker runs on the same database, or may, because it has several names."""
    STORE_FULL = 7
    """The disk was full at start, or ``rebuild`` has filled it."""
    TLS = 8
    """A certificate, key or CA file cannot be read or does not fit."""
    STORE_UNREACHABLE = 9
    """The database's server cannot be reached, or does not let us in."""
    STORE_OF_ANOTHER_LOG = 10
    """The database's rows are of another log; ``monstermq db adopt`` gives it to this one."""
    BUS_UNREACHABLE = 11
    """Kafka cannot be reached, or does not let us in."""
    BUS_MISMATCH = 12
    """Kafka's topics, limits or clock are not, or no more, what the configuration says. Nothing was
    changed."""
    INTERRUPTED = 130
    """A tool was stopped by a signal before it was done."""


FOR_A_PERSON = frozenset(
    {
        ExitCode.CONFIG,
        ExitCode.STORE_UNWRITABLE,
        ExitCode.STORE_DAMAGED,
        ExitCode.STORE_IN_USE,
        ExitCode.TLS,
        ExitCode.STORE_OF_ANOTHER_LOG,
    }
)
"""What stays as it is, however often a process is started, until somebody changes something."""
