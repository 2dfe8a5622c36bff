"""What results look like: Markdown that shows data as data, and bounds that a model can read."""
