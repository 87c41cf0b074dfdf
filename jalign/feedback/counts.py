"""What judges were asked and answered, counted over all processes."""

import threading
from collections.abc import Mapping

from jalign import hosts
from jalign.feedback.judge import Judge


class Tally:
  """Counts by name; threads may add to them at the same time."""

  def __init__(self) -> None:
    self._counts: dict[str, float] = {}
    self._lock = threading.Lock()

  def add(self, counts: Mapping[str, float]) -> None:
    """Adds to counts by name."""
    with self._lock:
      for name, count in counts.items():
        self._counts[name] = self._counts.get(name, 0) + count

  def counts(self) -> dict[str, float]:
    """The counts that aren't 0, by name, in the order of their first use."""
    with self._lock:
      return {name: count for name, count in self._counts.items() if count}


def merged(*parts: Mapping[str, float]) -> dict[str, float]:
  """The sums of counts by name."""
  whole = Tally()
  for part in parts:
    whole.add(part)
  return whole.counts()


def say_counts(judge: Judge | None, name: str = "[annotator]") -> None:
  """Prints what a judge was asked and answered so far, on all processes.

  All processes call this together. Nothing is printed for a judge that counts
  nothing or was asked nothing.

  Args:
    judge: the judge, or None.
    name: begins the line.
  """
  if judge is None or judge.counts is None:
    return
  own = {str(name): float(count) for name, count in judge.counts().items()}
  # Where all processes ask together, each counts what is asked once.
  parts = [own] if judge.reads_tokens else hosts.exchange(own)
  told = [f"{what} {count:,.0f}" for what, count in merged(*parts).items()]
  if told:
    hosts.say(f"{name} {', '.join(told)}")
