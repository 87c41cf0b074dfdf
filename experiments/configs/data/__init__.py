"""Small data for the shipped configs, and the reward that judges responses."""
