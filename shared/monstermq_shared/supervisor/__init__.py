"""One command for several processes: they are started in order, watched, and stopped together."""
