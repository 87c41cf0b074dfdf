"""Plots for reports: pure data in, a PNG file out, no display needed.

One look: the Okabe-Ito palette, which the colour-blind can tell apart (dashes
join in after seven curves), labels beside the data, a light grid. A run keeps
its colour over a report's plots where they all get one `run_colours`. A plot
makes its folder and returns its path.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from jalign.errors import UserError
from jalign.evaluation.win_rate import WinMatrix

Path = str | os.PathLike[str]
Looks = Mapping[str, tuple[Any, Any]]  # name -> (colour, line style)
Series = Mapping[str, tuple[ArrayLike, ArrayLike]]  # name -> (steps, values)

# Okabe-Ito: blue, vermilion, green, pink, orange, sky; and grey.
PALETTE: tuple[str, ...] = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
PALETTE += ("#E69F00", "#56B4E9", "#4D4D4D")
DASHES = ("-", "--", ":", "-.")
STYLE: dict[Any, Any] = {
  "axes.titlesize": "medium",
  "axes.titlelocation": "left",
  "figure.titleweight": "bold",
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.edgecolor": "#888888",
  "axes.grid": True,
  "axes.axisbelow": True,
  "grid.color": "#E6E6E6",
  "grid.linewidth": 0.8,
  "xtick.color": "#555555",
  "ytick.color": "#555555",
  "lines.linewidth": 1.8,
  "lines.markersize": 4,
  "text.parse_math": False,
}


def run_colours(names: Sequence[str]) -> Looks:
  """A colour and a dash pattern for each run, by its place in the list.

  Args:
    names: of all the runs of a report; repeats keep the first place.

  Returns:
    name -> (colour, line style); distinct for up to 28 names.
  """
  n = len(PALETTE)
  return {
    name: (PALETTE[i % n], DASHES[i // n % len(DASHES)])
    for i, name in enumerate(dict.fromkeys(names))
  }


def _figure(width: float, height: float, title: str) -> Figure:
  figure = Figure(figsize=(width, height), layout="constrained")
  if title:
    figure.suptitle(title, x=0.01, ha="left")
  return figure


def _save(figure: Figure, path: Path) -> pathlib.Path:
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path, format="png", dpi=150)
  return path


def _xy(name: str, curve: tuple[ArrayLike, ArrayLike]):
  steps, values = (np.asarray(x, np.float64) for x in curve)
  if steps.shape != values.shape or steps.ndim != 1:
    raise UserError(
      f"{steps.shape} steps and {values.shape} values.",
      where=f"curve {name!r}",
    )
  return steps, values


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
  """Centred, one-sided at the ends; a NaN stays, and counts for no other."""
  means = np.full(values.size, np.nan)
  for i in np.flatnonzero(np.isfinite(values)).tolist():
    start = max(i - window // 2, 0)
    means[i] = np.nanmean(values[start : i + window // 2 + 1])
  return means


def _draw(axes, series: Series, looks, window: int) -> dict[str, float]:
  """Curves on one pair of axes; name -> where each ends."""
  ends = {}
  for name, curve in series.items():
    steps, values = _xy(name, curve)
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
  axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
  axes.ticklabel_format(axis="y", scilimits=(-3, 5))
  return ends


def _label_ends(axes, ends: Mapping[str, float], looks, gap: float = 0.065):
  """Writes each curve's name right of the axes, near where it ends."""
  low, high = axes.get_ylim()
  names = sorted(ends, key=lambda name: ends[name])
  y = np.array([(ends[name] - low) / (high - low) for name in names])
  # Halfway between pushing up and pushing down keeps every distance; so do
  # the two bounds.
  rank = gap * np.arange(y.size)
  up = np.maximum.accumulate(y - rank) + rank
  down = np.minimum.accumulate((y - rank)[::-1])[::-1] + rank
  at = np.maximum(np.minimum((up + down) / 2, 1 - rank[::-1]), rank)
  style = {"transform": axes.transAxes, "clip_on": False}
  for name, start, end in zip(names, y, at):
    colour, dashes = looks[name]
    axes.plot([1, 1.02], [start, end], color=colour, linewidth=0.8, **style)
    axes.plot([1.02, 1.06], [end, end], color=colour, linestyle=dashes, **style)
    axes.text(1.07, end, name, color=colour, va="center", **style)


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
  """Several curves on one pair of axes, each named where it ends.

  Args:
    series: name -> (steps [N], values [N]); NaN leaves a gap.
    path: of the PNG file.
    xlabel: what is on the x axis, with its unit.
    ylabel: what is on the y axis, with its unit.
    title: above the plot.
    looks: from `run_colours`; by default of this plot's names.
    window: points of a running mean, drawn over the faint raw curve where
      that has at least four times as many.

  Raises:
    UserError: a curve's steps and values differ in number.
  """
  looks = run_colours(list(series)) if looks is None else looks
  with matplotlib.rc_context(STYLE):
    figure = _figure(7, 3.8, title)
    axes = figure.subplots()
    ends = _draw(axes, series, looks, window)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    _label_ends(axes, ends, looks)
    return _save(figure, path)


def plot_panels(
  panels: Mapping[str, Series],
  path: Path,
  *,
  xlabel: str = "step",
  title: str = "",
  looks: Looks | None = None,
  window: int = 1,
) -> pathlib.Path:
  """Small multiples: one panel a quantity, the same runs in each.

  Args:
    panels: the quantity with its unit -> its curves, as in `plot_curves`.
    path: of the PNG file.
    xlabel: what is on every x axis, with its unit.
    title: above the panels.
    looks: from `run_colours`; by default of these runs.
    window: points of a running mean.

  Raises:
    UserError: no panels; a curve's steps and values differ in number.
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
    figure = _figure(max(3.3 * columns, 4.5), 2.4 * rows + 0.5, title)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (quantity, series) in zip(grid, panels.items()):
      _draw(axes, series, looks, window)
      axes.set_title(quantity)
    for axes in grid[len(panels) :]:
      axes.set_visible(False)
    for axes in grid[max(len(panels) - columns, 0) : len(panels)]:
      axes.set_xlabel(xlabel)
    if len(runs) > 1:
      lines = [
        Line2D([], [], color=looks[run][0], linestyle=looks[run][1])
        for run in runs
      ]
      figure.legend(lines, runs, loc="outside right upper", frameon=False)
    return _save(figure, path)


def plot_metrics(
  rows: Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Mapping[str, Any]]],
  keys: Sequence[str] | Mapping[str, str],
  path: Path,
  *,
  title: str = "",
  looks: Looks | None = None,
  window: int = 1,
) -> pathlib.Path:
  """A panel for each metric of one run, or of several.

  Args:
    rows: from `jalign.training.metrics.read_jsonl`, or run -> such rows. Rows
      without a key are passed over.
    keys: metrics, or metric -> its panel's title with the unit.
    path: of the PNG file.
    title: above the panels.
    looks: from `run_colours`.
    window: points of a running mean.

  Raises:
    UserError: no run has one of the keys.
  """
  runs = rows if isinstance(rows, Mapping) else {"run": rows}
  titles = keys if isinstance(keys, Mapping) else {key: key for key in keys}
  panels: dict[str, Any] = {}
  for key, quantity in titles.items():
    found = {
      run: [(row["step"], row[key]) for row in each if key in row]
      for run, each in runs.items()
    }
    if not any(found.values()):
      known = sorted({k for each in runs.values() for row in each for k in row})
      raise UserError(
        f"no row has the metric {key!r}.",
        where=str(path),
        remedy=f"There are: {', '.join(known)}.",
      )
    panels[quantity] = {
      run: tuple(zip(*points)) for run, points in found.items() if points
    }
  return plot_panels(panels, path, title=title, looks=looks, window=window)


def plot_win_matrix(
  matrix: WinMatrix, path: Path, *, title: str = "Row beats column"
) -> pathlib.Path:
  """Win rates in per cent, with standard errors, one cell a pair.

  Args:
    matrix: from `win_matrix` or `head_to_head`.
    path: of the PNG file.
    title: above the plot.
  """
  n = len(matrix.names)
  rates = 100 * np.array(matrix.win_rate)
  np.fill_diagonal(rates, np.nan)
  with matplotlib.rc_context(STYLE | {"axes.grid": False}):
    figure = _figure(2.6 + 0.85 * n, 1.5 + 0.7 * n, title)
    axes = figure.subplots()
    colours = matplotlib.colormaps["RdBu"].with_extremes(bad="#F2F2F2")
    image = axes.imshow(rates, cmap=colours, vmin=0, vmax=100, aspect="auto")
    for (i, j), rate in np.ndenumerate(rates):
      if np.isnan(rate):
        text = "" if i == j else "–"
      else:
        text = f"{rate:.1f}\n±{100 * matrix.standard_error[i, j]:.1f}"
      dark = abs(rate - 50) > 33
      axes.text(
        j, i, text, ha="center", va="center", color="w" if dark else "#222222"
      )
    axes.set_xticks(range(n), matrix.names)
    axes.set_yticks(range(n), matrix.names)
    if max(map(len, matrix.names), default=0) > 10:
      for label in axes.get_xticklabels():
        label.set(rotation=35, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="win rate ± standard error (%)")
    return _save(figure, path)


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
  """Horizontal bars, first on top, with an interval and the number.

  Args:
    values: name -> (value, low, high), in the unit of `xlabel`.
    path: of the PNG file.
    xlabel: what the bars measure, with its unit, and what the intervals are.
    title: above the plot.
    reference: a value to mark by a dashed line, 50 for a win rate in per cent.
    number: format of the values written beside the bars.
    looks: from `run_colours`; by default all bars have one colour.
  """
  with matplotlib.rc_context(STYLE):
    figure = _figure(7, 1.1 + 0.38 * len(values), title)
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
    return _save(figure, path)
