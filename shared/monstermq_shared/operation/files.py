"""Limits of the process: how many files it may open, and how much memory it takes.

What happens at the limit is libuv's doing: it keeps one descriptor in reserve, with which clients
that cannot be served are accepted and closed at once, so that they notice and come back later.
"""

import logging
import resource
import sys

logger = logging.getLogger(__name__)

FILES_MAX = 1_048_576
"""More is never asked for: some container engines set a hard limit of a billion."""


def raise_file_limit() -> tuple[int, int]:
    """Raise the soft limit of open files to the hard one, and return (soft, hard) as they are now.

    Where the system does not allow it, the soft limit stays and a warning says so.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, FILES_MAX)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft, hard
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as exc:
        logger.warning("the limit of open files stays at %d: %s", soft, exc)
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def resident_bytes() -> int:
    """Return the physical memory of this process; its maximum where the system tells no more."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
