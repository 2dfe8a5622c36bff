"""Questions to the data: requests and answers as values, and the ports that answer them.

Databases implement the ports (``stores``), services ask them; nothing here does I/O.
"""
