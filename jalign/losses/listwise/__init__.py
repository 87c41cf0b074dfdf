"""Losses on lists of responses to one prompt."""
