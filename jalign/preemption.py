"""Requests to stop a run: SIGTERM, or SIGINT (Ctrl-C).

A request to one of several processes is one to all. JAX's preemption service
spreads the request and lets the processes agree on a step: the first one that
no process has passed yet. JAX installs its own handler of SIGTERM for that,
which another handler would replace.
"""

import os
import signal
import sys
from typing import Any

import jax
from jax.experimental import multihost_utils


class Stop:
  """Turns the first signal to a run into a request to stop after a step.

  A second SIGINT ends the process at once.
  """

  def __init__(self) -> None:
    self._asked = self._agreed = False
    self._several = jax.process_count() > 1
    self._calls = 0
    signal.signal(signal.SIGINT, self._ask)
    if not self._several:
      signal.signal(signal.SIGTERM, self._ask)

  def _ask(self, number: int, frame: Any) -> None:
    del frame
    if self._asked and number == signal.SIGINT:
      raise KeyboardInterrupt
    self._asked = True
    print("\njalign: stopping after this step ...", file=sys.stderr)
    if self._several:
      os.kill(os.getpid(), signal.SIGTERM)

  def __call__(self) -> bool:
    """Whether to stop; all processes call this after each step of a run.

    The result is the same on every process, and True from then on. Nothing
    waits for other processes.
    """
    if not self._several:
      return self._asked
    # Steps of a second stage begin at 1 again; the service needs a number that
    # grows.
    self._calls += 1
    self._agreed |= multihost_utils.reached_preemption_sync_point(self._calls)
    return self._agreed
