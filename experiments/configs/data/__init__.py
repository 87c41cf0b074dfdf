"""Small data that shipped configs train on, and the reward that judges it."""
