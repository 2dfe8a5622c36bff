"""The distributed engine: sessions of one of many edges on a bus with several partitions.

It keeps the protocol of many edges; its rules have names (E2, R4, ...), which the code cites. In
this release it serves connections whose session ends with them (``engine``), and folds what the
sessions log says into rows (``claims``). Neither does I/O: a host hands the engine what was read
from both logs and what became of its appends, and brings time.
"""
