"""Plots the frontier of reward against KL, with labels where there is room."""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import matplotlib
import numpy as np

from jalign.errors import UserError
from jalign.pages.plots import Series, checked_curve
from jalign.pages.style import (
  STYLE,
  Looks,
  Path,
  label_ends,
  new_figure,
  run_colours,
  save_figure,
  wrapped,
)


class FrontierPoint(NamedTuple):
  """Where a policy ends: its distance from the reference, and its value.

  Attributes:
    kl: distance from the reference, usually in nats per response.
    kl_error: half-width of the interval of `kl`; None or NaN for no interval.
    value: reward or win rate.
    low: lower end of the interval of `value`; NaN for no interval.
    high: upper end of the interval of `value`.
  """

  kl: float
  kl_error: float | None
  value: float
  low: float
  high: float


def _along(points: np.ndarray, count: int) -> np.ndarray:
  """[count, 2] points evenly spaced by index on a polyline [N, 2]; no NaN."""
  points = points[np.isfinite(points).all(1)]
  if not len(points):
    return points
  at = np.linspace(0, len(points) - 1, count)
  index = np.arange(len(points))
  return np.stack([np.interp(at, index, column) for column in points.T], 1)


def _place_labels(axes, points: Mapping[str, FrontierPoint], ink, looks):
  """Writes each name near its point, apart from the ink and from other names.

  Args:
    axes: axes with everything drawn, and with final limits.
    points: name -> point that the label belongs to.
    ink: [N, 2] data coordinates that labels should not cover.
    looks: name -> (colour, line style).
  """
  figure = axes.figure
  figure.draw_without_rendering()  # the layout fixes the scale
  ink = axes.transData.transform(ink)
  pixel = 72 / figure.dpi
  frame = axes.get_window_extent()
  angles = np.radians([0, 90, 180, 270, 45, 135, 225, 315])
  taken: list[tuple[float, float, float, float]] = []
  for name, point in points.items():
    text = axes.annotate(
      wrapped(name, 18),
      (point.kl, point.value),
      xytext=(0, 0),
      textcoords="offset points",
      color=looks[name][0],
      ha="center",
      va="center",
      linespacing=1.05,
    )
    text.set_in_layout(False)
    extent = text.get_window_extent()
    size = np.array([extent.width, extent.height])
    x, y = axes.transData.transform((point.kl, point.value))
    best: tuple[float, Any, Any] = (np.inf, None, None)
    for gap in (6, 16, 28, 42):
      for rank, angle in enumerate(angles):
        direction = np.array([np.cos(angle), np.sin(angle)])
        away = gap / pixel * direction + size / 2 * np.round(direction)
        left, low = (x, y) + away - size / 2
        right, high = (x, y) + away + size / 2
        inside = (ink > (left - 2, low - 1)) & (ink < (right + 2, high + 1))
        cost = inside.all(1).sum() + 0.12 * gap + 0.05 * rank
        cost += sum(
          200
          for box in taken
          if left < box[2] + 3
          and box[0] < right + 3
          and low < box[3] + 1
          and box[1] < high + 1
        )
        cost += 50 * (left < frame.x0 or right > frame.x1)
        cost += 50 * (low < frame.y0 or high > frame.y1)
        if cost < best[0]:
          best = cost, away * pixel, (left, low, right, high)
        if gap > 6 and best[0] < 0.12 * gap:
          break
    text.set_position(best[1])
    taken.append(best[2])
    if np.hypot(*best[1] / (size * pixel / 2 + 12)) > 1.6:
      axes.annotate(
        "",
        (point.kl, point.value),
        xytext=0.55 * best[1],
        textcoords="offset points",
        arrowprops={
          "arrowstyle": "-",
          "color": looks[name][0],
          "linewidth": 0.7,
          "shrinkB": 5,
        },
      ).set_in_layout(False)


def plot_frontier(
  points: Mapping[str, FrontierPoint | tuple[Any, ...]],
  path: Path,
  *,
  xlabel: str,
  ylabel: str,
  title: str = "",
  curves: Series | None = None,
  references: Mapping[str, float] | None = None,
  looks: Looks | None = None,
) -> pathlib.Path:
  """Plots what each policy gained against its distance from the reference.

  Args:
    points: name -> `FrontierPoint`, or a tuple of its fields in order.
    path: the file: .png, .pdf or .svg.
    xlabel: what the distance is, with its unit.
    ylabel: what the value is, with its unit, and what the intervals are.
    title: title above the plot.
    curves: name -> (distances [N], values [N]) in order, such as a policy's
      path during training. A curve with a point's name gets the point's colour,
      an open circle at its end and a dotted line from there to the point; other
      curves are named at their ends.
    references: label -> a value to mark by a dashed line, such as a ceiling.
    looks: from `run_colours`; by default for the points, then the curves.

  Raises:
    UserError: there are no points, or a curve's arrays differ in length.
  """
  curves, references = dict(curves or {}), dict(references or {})
  places = {name: FrontierPoint(*point) for name, point in points.items()}
  if not places:
    raise UserError("there are no points.", where=str(path))
  looks = run_colours([*places, *curves]) if looks is None else looks
  ink = []
  with matplotlib.rc_context(STYLE):
    figure = new_figure(7.4, 4.6, title)
    axes = figure.subplots()
    for name, curve in curves.items():
      x, y = checked_curve(name, curve)
      colour, dashes = looks[name]
      axes.plot(x, y, color=colour, linestyle=dashes, alpha=0.45, linewidth=1.4)
      ink.append(_along(np.stack([x, y], 1), 60))
      if name in points and len(ink[-1]):
        # The path was measured on other samples; a line joins it to the point.
        end, point = ink[-1][-1], places[name]
        gap = np.array([end, (point.kl, point.value)])
        axes.plot(*gap.T, ":", color=colour, alpha=0.6, linewidth=1)
        axes.plot(*end, "o", color=colour, markersize=5, markerfacecolor="w")
        ink += [_along(gap, 10), np.tile(end, (8, 1))]
      if name not in places and len(ink[-1]):
        kl, value = ink[-1][-1].tolist()
        places[name] = FrontierPoint(kl, None, value, value, value)
    for name, point in places.items():
      if name not in points:
        continue
      x, y, half = point.kl, point.value, point.kl_error or 0
      bars = np.array(
        [[(x, point.low), (x, point.high)], [(x - half, y), (x + half, y)]]
      )
      for bar in bars:
        axes.plot(*bar.T, color=looks[name][0], linewidth=1.3)
        ink.append(_along(bar, 20))
      axes.plot(
        *(x, y, "o"),
        color=looks[name][0],
        markersize=8,
        markeredgecolor="w",
        zorder=3,
      )
      ink.append(np.tile([[x, y]], (8, 1)))
    for value in references.values():
      axes.axhline(value, color="#777777", linestyle="--", linewidth=1)
    axes.margins(x=0.07, y=0.1)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_xlim(axes.get_xlim())
    axes.set_ylim(axes.get_ylim())
    for value in references.values():
      across = np.array([(x, value) for x in axes.get_xlim()])
      ink.append(_along(across, 80))
    ends = {wrapped(label, 20): value for label, value in references.items()}
    grey = dict.fromkeys(ends, ("#555555", "--"))
    label_ends(axes, ends, grey, gap=0.1)
    _place_labels(axes, places, np.concatenate(ink), looks)
    return save_figure(figure, path)
