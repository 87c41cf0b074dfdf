"""The data of a run and of its stages."""
