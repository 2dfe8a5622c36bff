"""The local engine: sessions of one process on the internal bus (``ARCHITECTURE.md`` 5).

One transaction per loop turn on the session store; a packet that tells a state leaves after the
commit of the facts it tells. The engine does no I/O: a driver takes turns and read requests out of
it, and brings the results back.
"""

from monstermq_shared.sessions.local.engine import LocalEngine
from monstermq_shared.sessions.local.reads import QueueRead
from monstermq_shared.sessions.local.turn import Turn
from monstermq_shared.sessions.retained import RetainedRead

__all__ = ["LocalEngine", "QueueRead", "RetainedRead", "Turn"]
