"""Plots for reports: pure data in, a file out; no display is needed.

There are curves, small multiples, matrices of win rates, and bars. A plotting
function makes the file's folder and returns the file's path.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import ArrayLike

from jalign.errors import UserError
from jalign.evaluation.win_rate import WinMatrix
from jalign.pages.style import (
  PALETTE,
  STYLE,
  Looks,
  Path,
  count_steps,
  label_ends,
  legend_below,
  new_figure,
  run_colours,
  save_figure,
  wrapped,
)

Series = Mapping[str, tuple[ArrayLike, ArrayLike]]  # name -> (steps, values)
_LABELS = 14  # labels that fit beside the curves of one plot


def checked_curve(name: str, curve: tuple[ArrayLike, ArrayLike]):
  """A curve as ([N], [N]) float64; raises UserError if its shapes differ."""
  steps, values = (np.asarray(x, np.float64) for x in curve)
  if steps.shape != values.shape or steps.ndim != 1:
    raise UserError(
      f"{steps.shape} steps and {values.shape} values.",
      where=f"curve {name!r}",
    )
  return steps, values


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
  """A centred mean, one-sided at the ends; NaN stays, and counts in no mean."""
  means = np.full(values.size, np.nan)
  for i in np.flatnonzero(np.isfinite(values)).tolist():
    start = max(i - window // 2, 0)
    means[i] = np.nanmean(values[start : i + window // 2 + 1])
  return means


def _draw(axes, series: Series, looks, window: int) -> dict[str, float]:
  """Draws curves on one pair of axes; returns name -> value at its end."""
  ends = {}
  for name, curve in series.items():
    steps, values = checked_curve(name, curve)
    colour, dashes = looks[name]
    if window > 1 and values.size >= 4 * window:
      axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.9)
      values = _running_mean(values, window)
    finite = values[np.isfinite(values)]
    marker = "o" if finite.size <= 25 else None
    axes.plot(steps, values, color=colour, linestyle=dashes, marker=marker)
    if finite.size:
      ends[name] = finite[-1]
  axes.margins(x=0.02)
  count_steps(axes)
  axes.ticklabel_format(axis="y", scilimits=(-3, 5))
  axes.yaxis.set_offset_position("right")  # the title is at the left
  return ends


def plot_curves(
  series: Series,
  path: Path,
  *,
  xlabel: str,
  ylabel: str,
  title: str = "",
  looks: Looks | None = None,
  window: int = 1,
) -> pathlib.Path:
  """Plots several curves on one pair of axes, named at their ends, or below.

  Args:
    series: name -> (steps [N], values [N]); NaN leaves a gap.
    path: the file: .png, .pdf or .svg.
    xlabel: what is on the x axis, with its unit.
    ylabel: what is on the y axis, with its unit.
    title: title above the plot.
    looks: from `run_colours`; by default for this plot's names.
    window: number of points of a running mean, which is drawn over the faint
      raw curve if that has at least four times as many points.

  Raises:
    UserError: a curve's steps and values differ in number.
  """
  looks = run_colours(list(series)) if looks is None else looks
  with matplotlib.rc_context(STYLE):
    figure = new_figure(7, 3.8, title)
    axes = figure.subplots()
    ends = _draw(axes, series, looks, window)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if len(ends) > _LABELS:
      legend_below(figure, {name: looks[name] for name in ends})
    else:
      label_ends(axes, ends, looks)
    return save_figure(figure, path)


def plot_panels(
  panels: Mapping[str, Series],
  path: Path,
  *,
  xlabel: str = "step",
  title: str = "",
  looks: Looks | None = None,
  groups: Mapping[str, str] | None = None,
  window: int = 1,
) -> pathlib.Path:
  """Plots small multiples: one panel per quantity, with the same runs in each.

  Args:
    panels: quantity with its unit -> curves, as in `plot_curves`.
    path: the file: .png, .pdf or .svg.
    xlabel: what is on every x axis, with its unit.
    title: title above the panels.
    looks: from `run_colours`; by default for these runs.
    groups: run -> its name in the legend, which several runs may share.
    window: number of points of a running mean.

  Raises:
    UserError: there are no panels, or a curve's steps and values differ in
      number.
  """
  if not panels:
    raise UserError("there is nothing to plot.", where=str(path))
  runs = list(
    dict.fromkeys(run for series in panels.values() for run in series)
  )
  looks = run_colours(runs) if looks is None else looks
  columns = min(3, len(panels))
  rows = -(-len(panels) // columns)
  with matplotlib.rc_context(STYLE):
    figure = new_figure(max(3.3 * columns, 4.5), 2.4 * rows + 0.5, title)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for axes, (quantity, series) in zip(grid, panels.items()):
      _draw(axes, series, looks, window)
      axes.tick_params(labelbottom=True)  # in every row, though all share x
      axes.set_title(quantity)
    for axes in grid[len(panels) :]:
      axes.set_visible(False)
    for axes in grid[max(len(panels) - columns, 0) : len(panels)]:
      axes.set_xlabel(xlabel)
    legend = {(groups or {}).get(run, run): looks[run] for run in runs}
    if len(legend) > 1:
      legend_below(figure, legend)
    return save_figure(figure, path)


def plot_metrics(
  rows: Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Mapping[str, Any]]],
  keys: Sequence[str] | Mapping[str, str],
  path: Path,
  *,
  title: str = "",
  looks: Looks | None = None,
  groups: Mapping[str, str] | None = None,
  window: int = 1,
) -> pathlib.Path:
  """Plots a panel for each metric of one run, or of several.

  Args:
    rows: from `jalign.training.metrics.read_jsonl`, or run -> such rows. Rows
      without a metric are left out of its panel.
    keys: metrics, or metric -> title of its panel, with the unit.
    path: the file: .png, .pdf or .svg.
    title: title above the panels.
    looks: from `run_colours`.
    groups: as in `plot_panels`.
    window: number of points of a running mean.

  Raises:
    UserError: one of the metrics is in no run.
  """
  runs = rows if isinstance(rows, Mapping) else {"run": rows}
  titles = keys if isinstance(keys, Mapping) else {key: key for key in keys}
  panels: dict[str, Any] = {}
  for key, quantity in titles.items():
    series = {
      run: [(row["step"], row[key]) for row in logged if key in row]
      for run, logged in runs.items()
    }
    if not any(series.values()):
      known = sorted(
        {k for logged in runs.values() for row in logged for k in row}
      )
      raise UserError(
        f"no row has the metric {key!r}.",
        where=str(path),
        remedy=f"The rows have: {', '.join(known)}.",
      )
    panels[quantity] = {
      run: tuple(zip(*points)) for run, points in series.items() if points
    }
  return plot_panels(
    panels, path, title=title, looks=looks, groups=groups, window=window
  )


def plot_win_matrix(
  matrix: WinMatrix,
  path: Path,
  *,
  title: str = "Row beats column",
  separators: Sequence[int] = (),
) -> pathlib.Path:
  """Plots win rates in per cent with 95 % intervals, one cell per pair.

  Args:
    matrix: from `win_matrix` or `head_to_head`.
    path: the file: .png, .pdf or .svg.
    title: title above the plot.
    separators: indices in `matrix.names` at which a new group begins: 5, if
      fixed responses follow five policies.

  Raises:
    UserError: a separator has no contestant on one of its sides.
  """
  n = len(matrix.names)
  for place in separators:
    if not 0 < place < n:
      raise UserError(
        f"a separator at {place}.",
        where=str(path),
        remedy=f"For {n} contestants, separators are 1 to {n - 1}.",
      )
  rates = 100 * np.array(matrix.win_rate)
  low = 100 * np.array(matrix.low)
  np.fill_diagonal(rates, np.nan)
  names = [wrapped(name, 12) for name in matrix.names]
  with matplotlib.rc_context(STYLE | {"axes.grid": False, "font.size": 9}):
    figure = new_figure(max(1.3 + 0.78 * n, 4.2), 1.2 + 0.52 * n, title)
    axes = figure.subplots()
    colours = matplotlib.colormaps["RdBu"].with_extremes(bad="#F2F2F2")
    axes.imshow(rates, cmap=colours, vmin=0, vmax=100, aspect="auto")
    for (i, j), rate in np.ndenumerate(rates):
      colour = "w" if abs(rate - 50) > 33 else "#222222"
      style: Any = {"ha": "center", "color": colour, "linespacing": 1}
      if np.isnan(rate):
        axes.text(j, i, "" if i == j else "–", va="center", **style)
        continue
      axes.text(j, i + 0.06, f"{rate:.1f}", va="bottom", **style)
      span = f"{low[i, j]:.0f} to {100 - low[j, i]:.0f}"
      axes.text(j, i + 0.1, span, va="top", fontsize=6.5, **style)
    # White rules separate neighbours; dark rules separate groups.
    for place in range(1, n):
      group = place in separators
      rule: Any = {"color": "#333333" if group else "w", "linewidth": 1 + group}
      axes.axhline(place - 0.5, **rule)
      axes.axvline(place - 0.5, **rule)
    axes.set_xticks(range(n), names, linespacing=1.05)
    axes.set_yticks(range(n), names, linespacing=1.05)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelcolor="#222222")
    axes.spines[:].set_visible(False)
    note = "Win rate (%), and its 95 % interval"
    axes.set_xlabel(note, fontsize=8, color="#555555", loc="left")
    return save_figure(figure, path)


def plot_bars_with_intervals(
  values: Mapping[str, tuple[float, float, float]],
  path: Path,
  *,
  xlabel: str,
  title: str = "",
  reference: float | None = None,
  number: str = ".1f",
  looks: Looks | None = None,
) -> pathlib.Path:
  """Plots horizontal bars, first on top, with an interval and the number.

  Args:
    values: name -> (value, low, high), in the unit of `xlabel`.
    path: the file: .png, .pdf or .svg.
    xlabel: what the bars measure, with its unit, and what the intervals are.
    title: title above the plot.
    reference: a value to mark by a dashed line, such as 50 for a win rate in
      per cent.
    number: format of the values written beside the bars.
    looks: from `run_colours`; by default all bars have one colour.
  """
  with matplotlib.rc_context(STYLE):
    figure = new_figure(7, 1.1 + 0.38 * len(values), title)
    axes = figure.subplots()
    for i, (name, (value, low, high)) in enumerate(values.items()):
      colour = looks[name][0] if looks else PALETTE[0]
      axes.barh(i, value, height=0.62, color=colour)
      axes.plot([low, high], [i, i], color="w", linewidth=4)
      axes.plot([low, high], [i, i], color="#222222", linewidth=1.5)
      axes.annotate(
        f"{value:{number}}",
        (np.nanmax([value, high, 0]), i),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
      )
    axes.set_yticks(range(len(values)), list(values))
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.09)
    if reference is not None:
      axes.axvline(reference, color="#888888", linestyle="--", linewidth=1)
    axes.set_xlabel(xlabel)
    return save_figure(figure, path)
