"""A page of panels on what a loss did to a policy in training, runs overlaid.

A panel appears if its quantity was measured. A run has the same colour in all
panels; chosen and rejected responses differ by line style.
"""

import pathlib

import matplotlib

from jalign.errors import UserError
from jalign.pages.panels import is_drawn, panels
from jalign.pages.style import (
  STYLE,
  Looks,
  Path,
  count_steps,
  legend_below,
  new_figure,
  run_colours,
  save_figure,
  wrapped,
)
from jalign.pages.traces import Dynamics, Panel, Runs

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
        count_steps(axes)
        axes.margins(x=0.02)
      missing = [] if panel.split else _missing(panel, runs, looks)
      if missing:
        note = wrapped(f"not measured: {', '.join(missing)}", 44, 2)
        axes.set_xlabel(f"{axes.get_xlabel()}\n{note}")
    for axes in grid[len(shown) :]:
      axes.set_visible(False)
    if len(runs) > 1:
      legend_below(
        figure, {_label(run, runs): (looks[run][0], "-") for run in runs}
      )
    return save_figure(figure, path)


def _label(run: str, runs: Runs) -> str:
  """A run's name; with the run's loss, if the runs are few."""
  loss = runs[run].recipe.get("loss")
  return f"{run}: {loss}" if loss and len(runs) <= 6 else run


def _missing(panel: Panel, runs: Runs, looks: Looks) -> list[str]:
  """Names of the runs that a panel has nothing of."""
  return [n for n, run in runs.items() if not is_drawn(panel, {n: run}, looks)]
