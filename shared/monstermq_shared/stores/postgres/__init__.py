"""PostgreSQL. Nothing is imported here: URLs are checked where the driver need not be installed."""
