"""The files of this repository, without what tools make."""

import os
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


@cache
def repository_files() -> tuple[Path, ...]:
    """Return the files git knows or would know; without git, all that it is not told to ignore."""
    # The clone may belong to another user than the one who tests.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    command += ["--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return tuple(walked_files())
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return tuple(path for path in paths if path.is_file())


def walked_files() -> Iterator[Path]:
    """Yield the files below the root whose names and folders ``.gitignore`` does not have."""
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    ignored = [".git", *(line.strip("/") for line in lines)]

    def is_ours(name: str) -> bool:
        return not any(fnmatch(name, pattern) for pattern in ignored)

    for folder, subfolders, names in os.walk(ROOT):
        subfolders[:] = filter(is_ours, subfolders)
        yield from (Path(folder, name) for name in filter(is_ours, names))
