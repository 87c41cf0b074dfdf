"""Losses whose gradients are those of expected rewards, from samples."""
