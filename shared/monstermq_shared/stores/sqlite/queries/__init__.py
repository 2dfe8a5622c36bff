"""Answers from a database file, over read-only connections of their own."""
