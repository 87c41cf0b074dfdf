"""Metrics that a clock gives: no two runs agree on them."""


def is_clock(name: str) -> bool:
  """Whether a metric is a time."""
  return name == "time" or name.startswith("time/")
