"""Draws a cycle of preferences: who beats whom, in a circle."""

import pathlib
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from jalign.errors import UserError
from jalign.pages.style import (
  PALETTE,
  STYLE,
  Path,
  new_figure,
  save_figure,
  wrapped,
)

# A diagram's coordinates are inches, so that counting tells what fits a box.
_LINE = 0.155  # height of a line of 8.5 pt
_MARGIN = 0.25
_PAD = 0.1  # padding of a box, inside its size
_BEND = 0.16  # bend of an arrow, as a fraction of its length


def _boxes(names: Sequence[str], texts: Mapping[str, str] | None):
  """(names, texts, width, height): the nodes' lines, and one size for all."""
  columns = 36 if len(names) < 5 else 28
  heads = [wrapped(name, 24, 2) for name in names]
  bodies = [wrapped((texts or {}).get(name, ""), columns, 8) for name in names]
  longest = max(len(line) for text in heads for line in text.splitlines())
  width = max(1.1, 0.1 * longest + 0.4)
  if any(bodies):
    width = max(width, 0.07 * columns + 0.23)
  lines = max(
    1.25 * (head.count("\n") + 1) + (body.count("\n") + 1.4) * bool(body)
    for head, body in zip(heads, bodies)
  )
  return heads, bodies, width, _LINE * lines + 0.26


def _centres(n: int, width: float, height: float) -> np.ndarray:
  """[n, 2] places on an ellipse, clockwise from the top, with room for arrows.

  Neighbours are in different rows if the circle puts them so, else side by
  side.
  """
  angles = np.pi / 2 - 2 * np.pi * np.arange(n) / n
  circle = np.stack([np.cos(angles), np.sin(angles)], 1)
  apart = np.abs(circle - np.roll(circle, -1, axis=0))
  below = apart[:, 1] > 0.99
  down = ((height + 0.95) / apart[below, 1]).max()
  across = max([0.7 * width + 0.7, *((width + 1.35) / apart[~below, 0])])
  return circle * (across, down)


def _label_place(start, end, bend, size):
  """(middle of the arrow's visible part, unit normal at that point).

  Args:
    start: [2] centre of the box that the arrow leaves.
    end: [2] centre of the box that the arrow points at.
    bend: bend of the arrow, as `arc3` takes it.
    size: [2] size of the boxes.
  """
  over = end - start
  normal = np.array([over[1], -over[0]])
  control = (start + end) / 2 + bend * normal
  t = np.linspace(0, 1, 101)[:, None]
  arc = (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end
  free = ~np.any(
    [(np.abs(arc - box) < size / 2).all(1) for box in (start, end)], axis=0
  )
  seen = arc[free] if free.any() else arc
  return seen[len(seen) // 2], np.sign(bend) * normal / np.hypot(*over)


def _draw_node(axes, centre, head, body, size):
  """Draws and returns a box with a name and, below the name, a text if any."""
  width, height = size
  box = FancyBboxPatch(
    centre - (width / 2 - _PAD, height / 2 - _PAD),
    width - 2 * _PAD,
    height - 2 * _PAD,
    boxstyle=f"round,pad={_PAD},rounding_size=0.12",
    facecolor="#F5F7F9",
    edgecolor="#B8C2CC",
    linewidth=1,
    zorder=2,
  )
  axes.add_patch(box)
  style = {"zorder": 3, "linespacing": 1.2}
  x, y = centre
  if not body:
    axes.text(x, y, head, ha="center", va="center", weight="bold", **style)
    return box
  x, y = x + 0.14 - width / 2, y + height / 2 - 0.12
  axes.text(x, y, head, va="top", weight="bold", **style)
  y -= _LINE * (1.25 * (head.count("\n") + 1) + 0.4)
  axes.text(x, y, body, va="top", fontsize=8.5, color="#444444", **style)
  return box


def _draw_arrow(axes, label, winner, loser, *, bend, colour):
  """Draws an arrow between two boxes, with its label on the outer side."""
  size = np.array([winner.get_width(), winner.get_height()])
  start, end = (
    np.array([box.get_x(), box.get_y()]) + size / 2 for box in (winner, loser)
  )
  axes.add_patch(
    FancyArrowPatch(
      tuple(start),
      tuple(end),
      patchA=winner,
      patchB=loser,
      connectionstyle=f"arc3,rad={bend}",
      arrowstyle="-|>,head_length=0.6,head_width=0.3",
      mutation_scale=16,
      shrinkA=5,
      shrinkB=5,
      linewidth=2.2,
      color=colour,
    )
  )
  (x, y), normal = _label_place(start, end, bend, size + 2 * _PAD)
  side = np.round(normal).astype(int) + 1
  axes.text(
    x + 0.12 * normal[0],
    y + 0.12 * normal[1],
    label,
    ha=("right", "center", "left")[side[0]],
    va=("top", "center", "bottom")[side[1]],
    weight="bold",
    fontsize=11,
    color=colour,
    zorder=4,
  )


def plot_cycle(
  names: Sequence[str],
  win_rates: Sequence[float],
  path: Path,
  *,
  half_widths: Sequence[float] | None = None,
  texts: Mapping[str, str] | None = None,
  title: str = "",
) -> pathlib.Path:
  """Draws a cycle of preferences, with arrows from each winner to the loser.

  An arrow against the cycle's direction (a rate below 1/2) has another colour,
  so that a cycle that isn't one does not look like one.

  Args:
    names: three to six names, in the order of the cycle.
    win_rates: fractions of names[i] beating names[i + 1], and of the last name
      beating the first.
    path: the PNG file.
    half_widths: half-widths of the rates' intervals, fractions; None shows
      none.
    texts: name -> an example; wrapped, and cut after eight lines.
    title: title above the diagram.

  Raises:
    UserError: there are too few or too many names, or the rates don't fit them.
  """
  n, rates = len(names), np.asarray(win_rates, np.float64)
  if not 3 <= n <= 6 or len(set(names)) != n:
    raise UserError(
      f"the names {list(names)} can't form a cycle.",
      where=str(path),
      remedy="Give three to six different names.",
    )
  if rates.shape != (n,) or not ((rates >= 0) & (rates <= 1)).all():
    raise UserError(
      f"win rates {rates.tolist()} for a cycle of {n}.",
      where=str(path),
      remedy="Give a fraction in [0, 1] for each name against the next.",
    )
  heads, bodies, width, height = _boxes(names, texts)
  centres = _centres(n, width, height)
  below = max(height / 2, 0.7)  # the lowest arrow's label hangs this low
  low = centres.min(0) - (width / 2 + _MARGIN, below + _MARGIN + 0.3)
  high = centres.max(0) + (width / 2 + _MARGIN, height / 2 + 0.1)
  size = high - low
  with matplotlib.rc_context(STYLE):
    top = 0.45 if title else 0.1
    figure = new_figure(size[0], size[1] + top, title)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, size[1] / (size[1] + top)))
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    axes.set_axis_off()
    boxes = [
      _draw_node(axes, *node, (width, height))
      for node in zip(centres, heads, bodies)
    ]
    for i, rate in enumerate(rates):
      j = (i + 1) % n
      label = f"{100 * max(rate, 1 - rate):.0f}"
      if half_widths is not None:
        label += f" ± {100 * half_widths[i]:.0f}"
      if rate >= 0.5:
        style = {"bend": -_BEND, "colour": PALETTE[0]}
        _draw_arrow(axes, f"{label} %", boxes[i], boxes[j], **style)
      else:
        style = {"bend": _BEND, "colour": PALETTE[1]}
        _draw_arrow(axes, f"{label} %", boxes[j], boxes[i], **style)
    note = "Arrows point from the winner to the loser, with how often it wins."
    if half_widths is not None:
      note += " ± half-width of the interval."
    axes.text(
      low[0] + 0.1,
      low[1] + 0.12,
      note,
      fontsize=8,
      color="#666666",
      va="bottom",
    )
    return save_figure(figure, path)
