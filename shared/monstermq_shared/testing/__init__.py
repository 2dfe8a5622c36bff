"""Contract suites and helpers that every backend's tests share."""
