"""The local engine with its databases, followers and maintenance: one process, internal bus."""
