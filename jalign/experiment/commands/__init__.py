"""The commands beside `train`, which work on finished runs."""
