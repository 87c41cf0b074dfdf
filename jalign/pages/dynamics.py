"""A page of panels on what a loss did to a policy in training, runs overlaid.

A panel appears if its quantity was measured. A run has the same colour in all
panels; chosen and rejected responses differ by line style.
"""

import pathlib

import matplotlib
from matplotlib.ticker import MaxNLocator

from jalign.errors import UserError
from jalign.pages.panels import panels
from jalign.pages.style import (
  STYLE,
  Path,
  legend_below,
  new_figure,
  run_colours,
  save_figure,
)
from jalign.pages.traces import Dynamics, Runs

__all__ = ["Dynamics", "Runs", "plot_dynamics"]


def plot_dynamics(runs: Runs, path: Path, *, title: str = "") -> pathlib.Path:
  """Draws the page.

  Args:
    runs: name -> what the run left; up to 28 runs.
    path: the file: .png, .pdf or .svg.
    title: title above the panels.

  Raises:
    UserError: nothing was measured.
  """
  looks = run_colours(list(runs))
  shown = panels(runs, looks)
  if not shown:
    raise UserError(
      "nothing was measured that this page shows.",
      where=str(path),
      remedy="Train with --config.diagnostics.likelihood=probe, for example.",
    )
  columns = min(3, len(shown))
  rows = -(-len(shown) // columns)
  with matplotlib.rc_context(STYLE | {"lines.linewidth": 1.5}):
    figure = new_figure(3.5 * columns, 2.7 * rows + 0.4, title)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, panel in zip(grid, shown):
      panel.draw(axes, runs, looks)
      axes.set_title(panel.title)
      if panel.xlabel:
        axes.set_xlabel(panel.xlabel)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes.margins(x=0.02)
    for axes in grid[len(shown) :]:
      axes.set_visible(False)
    if len(runs) > 1:
      legend_below(figure, {run: (looks[run][0], "-") for run in runs})
    return save_figure(figure, path)
