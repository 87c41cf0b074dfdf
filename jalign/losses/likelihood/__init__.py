"""Losses on the likelihood of single responses."""
