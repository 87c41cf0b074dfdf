"""Losses that train reward, cost and preference models, and what they weigh."""
