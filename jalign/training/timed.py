"""When a checkpoint is due by the clock."""

import time
from collections.abc import Callable

from jalign.hosts import decided


class SaveClock:
  """Says when some minutes have passed since the last checkpoint.

  The clock of the first process counts, for all processes.

  Args:
    minutes: minutes between checkpoints; 0 for never.
    clock: gives the time in seconds, from any start.
  """

  def __init__(
    self, minutes: float, clock: Callable[[], float] = time.monotonic
  ):
    self._seconds, self._clock = 60 * minutes, clock
    self._since = clock()

  def due(self) -> bool:
    """Whether to save now; all processes ask this at the same steps."""
    if not self._seconds:
      return False
    return decided(lambda: self._clock() - self._since >= self._seconds)

  def restart(self) -> None:
    """Counts from now, as a checkpoint is saved."""
    self._since = self._clock()
