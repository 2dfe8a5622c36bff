"""The queues of kept sessions, as the workers of the bus make them out of their partitions.

``cuts`` has who subscribes to what in each partition, ``fold`` what becomes of one partition's
records. Neither does I/O.
"""
