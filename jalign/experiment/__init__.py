"""Whole runs from a config: data, stages, evaluation, report."""
