"""PostgreSQL. Its addresses are read by ``config.postgres_urls``, which needs no driver."""
