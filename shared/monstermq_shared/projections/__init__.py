"""Projections: pure folds from records to changes."""
