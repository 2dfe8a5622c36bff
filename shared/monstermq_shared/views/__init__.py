"""Views: which projections a configuration has, where their rows live, and how they get there."""
