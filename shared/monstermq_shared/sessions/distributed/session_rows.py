"""A session's rows, as the worker of the sessions log reads and writes them."""

from monstermq_shared.sessions.distributed.session_state import SessionState
from monstermq_shared.stores.changes import SessionRow, StoredSession

_PROTOCOL = "ProtocolVersion"
_ENDED = "EndedAt"
"""Of a row that stays for a while because its claim has ended a kept session: where (S4)."""


def state_of(stored: StoredSession) -> SessionState:
    """Return what the rows say."""
    row = stored.row
    state = SessionState()
    state.epoch = row.epoch or 0
    state.incarnation = state.epoch if row.incarnation == row.epoch else row.incarnation
    state.expiry_s = row.expiry_s or 0
    state.attached = row.connected
    state.changed_ms = row.updated_ms
    state.run = bytes.fromhex(row.run)
    state.protocol = int(row.information.get(_PROTOCOL, 0))
    state.will = row.will
    state.sent = row.sent
    state.load(stored.opened, stored.subscriptions)
    return state


def ended_at(stored: StoredSession) -> int | None:
    """Return the epoch that has ended a kept session of which something may be left (S4)."""
    epoch = stored.row.information.get(_ENDED)
    return None if epoch is None else int(epoch)


def row_of(client_id: str, state: SessionState, ended: int | None) -> SessionRow:
    """Return its row of ``sessions``; for ``ended`` see ``ended_at``."""
    information: dict[str, str | int | bool] = {_PROTOCOL: state.protocol}
    if ended is not None:
        information[_ENDED] = ended
    return SessionRow(
        client_id=client_id,
        incarnation=state.incarnation,
        clean=not state.expiry_s,
        connected=state.attached,
        updated_ms=state.changed_ms,
        information=information,
        will=state.will,
        epoch=state.epoch,
        run=state.run.hex(),
        expiry_s=state.expiry_s,
        sent=state.sent,
    )
