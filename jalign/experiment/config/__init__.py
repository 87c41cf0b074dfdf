"""The settings of a run, and the functions that its config names."""
