"""What a run left of a stage, and the panels that show it."""

import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.lines import Line2D

from jalign.pages.style import Looks


class Dynamics(NamedTuple):
  """What a run left of one stage.

  Attributes:
    rows: the stage's metrics, from `jalign.training.metrics.read_jsonl`.
    pairs: arrays of the probe's pairs at the last probe; {} without a probe.
    beta: temperature of the stage's implicit rewards; None if it has none.
    start: mark of the policy that the stage started from, and that it was
      compared with; "" if it isn't known.
    recipe: how the stage was trained, name of a quantity -> its value; the
      legend of a few runs shows `loss`.
  """

  rows: Sequence[Mapping[str, Any]]
  pairs: Mapping[str, np.ndarray]
  beta: float | None
  start: str = ""
  recipe: Mapping[str, str] = types.MappingProxyType({})

  def curve(self, *names: str) -> tuple[np.ndarray, np.ndarray] | None:
    """(steps, values) of the first of some metrics that was measured."""
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
    title: title above the panel.
    draw: `(axes, runs, looks) -> whether there was anything to draw`.
    xlabel: label below the panel; "" if `draw` writes it.
    split: whether the panel leaves out runs that another panel shows.
  """

  title: str
  draw: Drawing
  xlabel: str = "step"
  split: bool = False


def explain(axes, styles: Mapping[str, Any], where: str = "best") -> None:
  """Adds a small legend that explains line styles, whatever their colour."""
  lines = [
    Line2D([], [], color="#444444", linestyle=style)
    for style in styles.values()
  ]
  if lines:
    axes.legend(
      lines, list(styles), loc=where, fontsize="x-small", framealpha=0.85
    )
