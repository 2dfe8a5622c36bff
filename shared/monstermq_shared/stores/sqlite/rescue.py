"""What becomes of a database whose files are taken away while the broker runs on it."""

import logging
import math
import shlex
import sqlite3
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from monstermq_shared.errors import MonsterError, StoreDamaged, StoreUnavailable
from monstermq_shared.stores.sql import load_queries
from monstermq_shared.stores.sqlite.copying import write_copy
from monstermq_shared.stores.sqlite.errors import translated
from monstermq_shared.stores.sqlite.files import INDEX, LOG, complete_or_absent, place_of, reading
from monstermq_shared.stores.sqlite.watch import FileWatch, Loss

logger = logging.getLogger(__name__)

_QUERIES = load_queries(__package__, "database.sql")
_RETRY_S = 10.0
"""After so long a rescue for which the disk had no room is tried again."""


class Guard:
    """Lets nothing be committed to files that are not the database's any more, and saves the rest.

    There is no way back but a restart, also if the file is put back: nobody knows what was done to
    it meanwhile. Used by the writer's thread; anybody may read ``lost``.

    Args:
        watch: Looks at the files.
        database: The database, as messages name it.
        writer: The token that this opening of it has written, in its meta row.

    Attributes:
        lost: What has happened, where the rescue is and what to do, in one sentence; None as long
            as all is well.
    """

    def __init__(self, watch: FileWatch, database: Path, writer: str) -> None:
        self._watch = watch
        self._writer = writer
        self._database = database
        self._place = place_of(database)
        self._loss: Loss | None = None
        self._looked_s = -math.inf
        self._next_try_s: float | None = None
        self.lost: str | None = None

    def check(self, *, age_s: float = 0.0) -> None:
        """Look at the files, unless that was done less than so many seconds ago.

        Raises:
            StoreUnavailable: They are not ours any more, now and for ever; or cannot be looked at.
        """
        now_s = time.monotonic()
        if self._loss is None and now_s - self._looked_s >= age_s:
            self._loss = self._watch.look()
            self._looked_s = now_s
            if self._loss is not None:
                self._next_try_s = now_s
                self.lost = f"{self._loss.what} while in use: what it held is being saved"
        if self._loss is not None:
            raise StoreUnavailable(f"{self._loss.what} while in use")

    def rescue(self, connection: sqlite3.Connection, *, at_last: bool = False) -> None:
        """If the files are lost: save beside them what the connection still sees, and say so.

        It is done once, and again only if there was no room for it.

        Args:
            connection: The writer's; no transaction is open.
            at_last: Whether there will be no later call, so that it is tried now or never.
        """
        loss = self._loss
        if loss is None or self._next_try_s is None:
            return
        if time.monotonic() < self._next_try_s and not at_last:
            return
        self._next_try_s = None
        target = self._target()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with complete_or_absent(target) as partial:
                write_copy(connection, partial, read=str(self._database))
                if not loss.whole:
                    self._check_ours(partial)
        except (MonsterError, OSError) as exc:
            cause = exc.__cause__ or exc
            if loss.whole and isinstance(exc, StoreUnavailable | OSError):
                self._next_try_s = time.monotonic() + _RETRY_S
                self._tell(
                    f"and what it held could not be saved yet ({cause}); leave the broker running "
                    f"and make room in {target.parent}: it is tried again every {_RETRY_S:.0f} s"
                )
            else:
                self._tell(
                    f"and what it held could not be saved ({cause}); stop the broker, save what is "
                    f"left with: monstermq db recover {shlex.quote(str(self._database))} NEWFILE, "
                    "or go back to a backup with: monstermq db restore BACKUP"
                )
        else:
            self._part_from_another(target)
            what = "all that was acknowledged" if loss.whole else "what could still be read of it"
            self._tell(
                f"and {what} is saved in {target}; stop the broker, run: monstermq db restore "
                f"{shlex.quote(str(target))}, and start it again"
            )

    def close(self) -> None:
        """Close what was opened to look at the files; SQLite has closed them before."""
        self._watch.close()

    def _check_ours(self, partial: Path) -> None:
        """Refuse a copy that is not sound, or is of pages that somebody else has written.

        Raises:
            StoreError: It is neither.
        """
        with translated(str(partial)), reading(partial) as copy:
            ((finding,),) = copy.execute("PRAGMA quick_check(1)").fetchall()
            found = copy.execute(_QUERIES["writer"]).fetchone()
        if finding != "ok":
            raise StoreDamaged(finding)
        if found != (self._writer,):
            raise StoreDamaged("what is there now is of another database")

    def _target(self) -> Path:
        name = f"{self._place.name}.rescued-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        return self._place.with_name(name)

    def _part_from_another(self, saved: Path) -> None:
        """Give our log another name where it lies beside the database of somebody else."""
        aside = saved.with_name(saved.name.replace(".rescued-", ".replaced-"))
        with suppress(OSError):  # there is none, or it is for db restore to do
            for stray in self._watch.strays():
                if stray.endswith(INDEX):
                    Path(stray).unlink()
                else:
                    Path(stray).rename(f"{aside}{LOG}")

    def _tell(self, outcome: str) -> None:
        assert self._loss is not None
        told = f"{self._loss.what} while in use: publishers wait, {outcome}"
        if told != self.lost:
            self.lost = told
            logger.error("%s", told)
