"""Losses that train reward, cost and preference models."""
