"""Shows progress: a bar on a terminal, else a plain line every minute.

A log file, a pipe or a cluster's console gets whole lines, on standard error
like the bar. Phases of less than a minute print no line.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tqdm import tqdm

from jalign import cluster, heartbeat

EVERY_SECONDS = 60.0


class Progress:
  """Progress of one phase; `close` it, or use it in a `with`.

  Args:
    description: title of the phase; "" shows nothing at all.
    unit: name of a unit that is counted, in the singular.
    total: number of units at the end; None if it isn't known.
    initial: number of units that were done before.
    leave: whether a bar stays on the terminal when the phase is over.
    clock: gives the time in seconds, from any start.
  """

  def __init__(
    self,
    description: str,
    unit: str,
    total: int | None = None,
    *,
    initial: int = 0,
    leave: bool = False,
    clock: Callable[[], float] = time.monotonic,
  ):
    title = description if cluster.index() == 0 else ""
    self._bar = tqdm(
      total=total,
      initial=initial,
      desc=description,
      disable=None if title else True,  # None: only on a terminal
      unit=unit,
      leave=leave,
      dynamic_ncols=True,
    )
    self._plain = bool(title and self._bar.disable)
    self._description, self._unit, self._total = description, unit, total
    self._clock, self._done, self._values = clock, initial, ""
    self._said_at, self._said_done = clock(), initial

  def __enter__(self) -> "Progress":
    return self

  def __exit__(self, *error: Any) -> None:
    self.close()

  def close(self) -> None:
    """Ends the bar."""
    self._bar.close()

  def update(self, count: int = 1) -> None:
    """Counts units that are done; prints a line if a minute has passed."""
    self._done += count
    self._bar.update(count)
    heartbeat.progress(self._where())
    now = self._clock()
    if self._plain and now - self._said_at >= EVERY_SECONDS:
      # Training goes on if the log can't be written to.
      with contextlib.suppress(OSError, ValueError):
        print(self._line(now), file=sys.stderr, flush=True)
      self._said_at, self._said_done = now, self._done

  def show(self, **values: float) -> None:
    """Shows numbers beside the count from now on, the loss for example."""
    texts = {name: f"{value:.4f}" for name, value in values.items()}
    self._bar.set_postfix(texts, refresh=False)
    self._values = "".join(f", {k} {text}" for k, text in texts.items())

  def _where(self) -> str:
    """The units that are done, in words."""
    where = f"[{self._description}] {self._unit} {self._done:,}"
    return where if self._total is None else f"{where} of {self._total:,}"

  def _line(self, now: float) -> str:
    """A line on the units that are done, and their rate since the last line."""
    rate = (self._done - self._said_done) / (now - self._said_at)
    unit = self._unit
    line = self._where() + self._values
    if rate >= 1:
      line += f", {rate:.1f} {unit}s/s"
    elif rate > 0:
      line += f", {1 / rate:.1f} s/{unit}"
    if rate > 0 and self._total is not None:
      line += f", {duration((self._total - self._done) / rate)} left"
    return line


def follow(
  items: Iterable[Any],
  description: str,
  unit: str,
  total: int | None = None,
) -> Iterator[Any]:
  """Yields items; each is a unit of progress, done when the next is asked for.

  Args:
    items: the items.
    description: title of the phase; "" shows nothing.
    unit: name of an item, in the singular.
    total: number of items; None takes their length, if they have one.
  """
  if total is None:
    total = getattr(items, "__len__", lambda: None)()
  with Progress(description, unit, total) as progress:
    for item in items:
      yield item
      progress.update()


def duration(seconds: float) -> str:
  """Seconds in words: "45 s", "12 min", "3 h 05 min"."""
  if seconds < 59.5:
    return f"{seconds:.0f} s"
  minutes = round(seconds / 60)
  if minutes < 60:
    return f"{minutes} min"
  return f"{minutes // 60:,} h {minutes % 60:02d} min"
