"""What a run left of a stage, and what a panel of it is."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.lines import Line2D

from jalign.pages.style import Looks


class Dynamics(NamedTuple):
  """What a run left of one stage.

  Attributes:
    rows: its metrics, from `jalign.training.metrics.read_jsonl`.
    pairs: arrays of the probe's pairs at the last probe; {} without one.
    beta: temperature of its implicit rewards; None where it has none.
    start: mark of the policy that it started from, and was compared with; ""
      where that isn't known.
  """

  rows: Sequence[Mapping[str, Any]]
  pairs: Mapping[str, np.ndarray]
  beta: float | None
  start: str = ""

  def curve(self, *names: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Steps and values of the first of some metrics that was measured."""
    for name in names:
      points = [(row["step"], row[name]) for row in self.rows if name in row]
      if points:
        steps, values = zip(*points)
        return np.asarray(steps), np.asarray(values, np.float64)
    return None


Runs = Mapping[str, Dynamics]
Drawing = Callable[[Any, Runs, Looks], bool]


class Panel(NamedTuple):
  """A panel of the page.

  Attributes:
    title: above it.
    draw: `(axes, runs, looks) -> whether anything was there to draw`.
    xlabel: below it; "" where `draw` says it.
  """

  title: str
  draw: Drawing
  xlabel: str = "step"


def explain(axes, styles: Mapping[str, Any]) -> None:
  """A small legend of line styles, whatever the colour."""
  lines = [
    Line2D([], [], color="#444444", linestyle=style)
    for style in styles.values()
  ]
  if lines:
    axes.legend(
      lines, list(styles), loc="best", fontsize="x-small", framealpha=0.85
    )
