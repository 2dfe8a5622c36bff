"""Questions to PostgreSQL, on connections of their own that change nothing."""
