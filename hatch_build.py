"""The compiled form: this build hook turns the hot modules into libraries with mypyc.

The source stays as it is, and stands beside the libraries. Which modules are compiled is said in
``pyproject.toml``. Unless the environment has ``MONSTERMQ_COMPILED=1`` nothing is.
"""

import os
import shutil
import sysconfig
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

GROUP = "monstermq"
"""Names the library that has all the code: calls between modules are direct in it. Each module has
a small library of its own, which only finds it there."""

GROUP_FOLDER = "shared"
"""Where that library is in the tree; in a wheel it is beside the packages."""

OPTIMIZATION = "2"
"""gcc's level, that of Debian's Python."""

NEEDED = ("mypy==", "setuptools==")
"""What compiles, and builds what that has made, in the versions of ``constraints.txt``."""


class CompiledForm(BuildHookInterface[Any]):
    """Puts the libraries into the wheel; for an editable installation, beside their sources."""

    def dependencies(self) -> list[str]:
        """See ``BuildHookInterface``."""
        if not _is_wanted():
            return []
        pins = Path(self.root, "constraints.txt").read_text(encoding="utf-8").splitlines()
        tools = [pin for pin in pins if pin.startswith(NEEDED)]
        core = self.metadata.core
        return [*tools, *core.dependencies, *core.optional_dependencies["edge"]]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """See ``BuildHookInterface``."""
        if not _is_wanted():
            return
        root, begun_s = Path(self.root), time.time()
        built = _compile(root, _sources(root, self.config))
        if version != "editable":
            build_data["force_include"].update({str(path): name for name, path in built.items()})
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
            return
        folders = {Path(name).name: Path(name).parent for name in self.build_config.packages}
        for old in root.glob(f"s*/**/*{sysconfig.get_config_var('EXT_SUFFIX')}"):
            old.unlink()
        for name, path in built.items():
            library = root / folders.get(Path(name).parts[0], GROUP_FOLDER) / name
            shutil.copyfile(path, library)
            # What is edited while gcc is at work is newer than the library, and shows.
            os.utime(library, (begun_s, begun_s))


def _is_wanted() -> bool:
    value = os.environ.get("MONSTERMQ_COMPILED", "0")
    if value not in {"", "0", "1"}:
        message = f"MONSTERMQ_COMPILED is {value!r}: 1 compiles, 0 does not"
        raise ValueError(message)
    return value == "1"


def _sources(root: Path, config: dict[str, Any]) -> list[str]:
    """Return the modules to compile.

    Raises:
        ValueError: A line of the lists names no module: it would be left out without a word.
    """
    named = {pattern: set(root.glob(pattern)) for pattern in config["compiled"]}
    found = set().union(*named.values())
    excepted = {
        pattern: found.intersection(root.glob(pattern)) for pattern in config["interpreted"]
    }
    if empty := [pattern for pattern, paths in (named | excepted).items() if not paths]:
        message = f"pyproject.toml names modules to compile or to leave that are not there: {empty}"
        raise ValueError(message)
    compiled = found.difference(*excepted.values())
    return sorted(str(path.relative_to(root)) for path in compiled if path.stem != "__init__")


def _compile(root: Path, sources: Sequence[str]) -> dict[str, Path]:
    """Return the libraries: name in a wheel -> where it was built.

    What has not changed since the last time is not compiled again.
    """
    from mypyc.build import mypycify  # noqa: PLC0415 - not needed for the pure form
    from setuptools import Distribution  # noqa: PLC0415 - the same
    from setuptools.command.build_ext import build_ext  # noqa: PLC0415 - the same

    folder = root / "build" / f"compiled-{sysconfig.get_config_var('SOABI')}"
    extensions = mypycify(
        # Errors in other modules are found by `make types`, where all libraries are installed.
        ["--config-file=pyproject.toml", "--follow-imports=silent", *sources],
        opt_level=OPTIMIZATION,
        debug_level="0",
        multi_file=True,
        target_dir=str(folder / "c"),
        group_name=GROUP,
    )

    class ParallelBuild(build_ext):
        """Compiles the files of one library at the same time, and only those that changed."""

        def build_extensions(self) -> None:
            headers = max(path.stat().st_mtime for path in (folder / "c").rglob("*.h"))
            compile_files = self.compiler.compile

            def compile_file(source: str, options: dict[str, object]) -> list[str]:
                objects = self.compiler.object_filenames([source], output_dir=self.build_temp)
                newest = max(headers, Path(source).stat().st_mtime)
                if Path(objects[0]).exists() and Path(objects[0]).stat().st_mtime > newest:
                    return objects
                return compile_files([source], **options)

            def compile_all(sources: Sequence[str], **options: object) -> list[str]:
                with ThreadPoolExecutor(os.cpu_count()) as pool:
                    compiled = pool.map(lambda source: compile_file(source, options), sources)
                return [name for names in compiled for name in names]

            self.compiler.compile = compile_all
            super().build_extensions()

    command = ParallelBuild(Distribution({"name": GROUP, "ext_modules": extensions}))
    command.build_lib, command.build_temp = str(folder / "lib"), str(folder / "o")
    command.ensure_finalized()
    command.run()
    names = [command.get_ext_filename(extension.name) for extension in extensions]
    return {name: folder / "lib" / name for name in names}
