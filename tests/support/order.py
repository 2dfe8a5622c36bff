"""In which order ``make test`` takes the files: the last minute is not to be one process alone."""

from pathlib import Path

TESTS = Path(__file__).parents[1]

LONGEST = [
    "simulation/test_kept_sessions.py",
    "bench/test_bench_runs.py",
    "integration/test_kafka_kill.py",
    "integration/test_kafka_outages.py",
    "integration/test_kafka_kept_outages.py",
    "integration/test_kafka_archive.py",
    "integration/test_kafka_session_worker.py",
    "integration/test_postgres_views.py",
    "integration/test_kafka_archive_topics.py",
]
"""Those of more than half a minute, longest first; what of it is left to the others is short."""


def turn_of(path: Path) -> tuple[int, bool]:
    """Return what the files are sorted by: the longest, then those with servers, then the others.

    Args:
        path: Of a file of tests, absolute.
    """
    name = path.relative_to(TESTS).as_posix()
    place = LONGEST.index(name) if name in LONGEST else len(LONGEST)
    return place, not name.startswith("integration/")
