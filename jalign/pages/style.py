"""The common style of a report's plots.

It has the Okabe-Ito palette, which colour-blind readers can tell apart (dashes
distinguish more than seven curves), labels beside the data, and a light grid. A
run keeps its colour over a report's plots if all of them get the same
`run_colours`.
"""

import io
import os
import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from jalign.errors import UserError
from jalign.files import write_whole

Path = str | os.PathLike[str]
Looks = Mapping[str, tuple[Any, Any]]  # name -> (colour, line style)

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


def look(index: int) -> tuple[str, str]:
  """(colour, line style) of the run with an index, from 0, on a page."""
  n = len(PALETTE)
  return PALETTE[index % n], DASHES[index // n % len(DASHES)]


def run_colours(names: Sequence[str]) -> Looks:
  """A colour and a line style for each run, by its place in the list.

  Args:
    names: all runs of a report; a repeated name keeps its first place.

  Returns:
    name -> (colour, line style); different for up to 28 names.
  """
  return {name: look(i) for i, name in enumerate(dict.fromkeys(names))}


def new_figure(width: float, height: float, title: str) -> Figure:
  """An empty figure, its size in inches, with its title at the left."""
  figure = Figure(figsize=(width, height), layout="constrained")
  if title:
    figure.suptitle(title, x=0.01, ha="left")
  return figure


# Metadata of files, beside the picture: neither time nor version.
_METADATA: dict[str, dict[str, Any]] = {
  "png": {"Software": None},
  "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
  "svg": {"Creator": None, "Date": None},
}
FORMATS = tuple(_METADATA)


def save_figure(figure: Figure, path: Path) -> pathlib.Path:
  """Writes the file whole, and makes its folder if missing.

  Equal figures give equal bytes.

  Raises:
    UserError: the file's name ends in none of `FORMATS`.
  """
  path, data = pathlib.Path(path), io.BytesIO()
  kind = path.suffix.removeprefix(".")
  if kind not in _METADATA:
    raise UserError(
      f"a plot can't be a {path.suffix or 'file without an ending'}.",
      where=str(path),
      remedy=f"Let the name end in one of: {', '.join(FORMATS)}.",
    )
  with matplotlib.rc_context({"svg.hashsalt": "jalign", "pdf.fonttype": 42}):
    figure.savefig(data, format=kind, dpi=150, metadata=_METADATA[kind])
  write_whole(path, data.getvalue())
  return path


def count_steps(axes) -> None:
  """Marks whole numbers alone on the x axis, even of a single step."""
  axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))


def legend_below(figure: Figure, lines: Looks) -> None:
  """Draws a legend under all axes; the figure grows by the legend's rows.

  Args:
    figure: a figure with a constrained layout.
    lines: name -> (colour, line style).
  """
  room = figure.get_figwidth() - 0.3
  labels = [wrapped(name, int((room - 0.75) / 0.09)) for name in lines]
  letters = max(
    len(line) for label in labels for line in label.splitlines() or [""]
  )
  columns = max(1, min(len(labels), int(room / (0.75 + 0.09 * letters))))
  tall = max(label.count("\n") + 1 for label in labels)
  rows = -(-len(labels) // columns)
  figure.set_figheight(figure.get_figheight() + 0.1 + 0.21 * rows * tall)
  handles = [
    Line2D([], [], color=colour, linestyle=style, linewidth=2.5)
    for colour, style in lines.values()
  ]
  figure.legend(
    *(handles, labels),
    loc="outside lower center",
    ncols=columns,
    frameon=False,
  )


def wrapped(text: str, width: int, lines: int | None = None) -> str:
  """Text on lines of at most `width` characters; "…" marks what is cut."""
  return "\n".join(
    textwrap.wrap(text, width, max_lines=lines, placeholder=" …")
  )


def label_ends(axes, ends: Mapping[str, float], looks, gap: float = 0.065):
  """Writes each curve's name right of the axes, near the curve's end.

  Args:
    axes: axes with final limits.
    ends: name -> value at the curve's end.
    looks: name -> (colour, line style).
    gap: least distance of two names, as a fraction of the axes' height.
  """
  low, high = axes.get_ylim()
  names = sorted(ends, key=lambda name: ends[name])
  y = np.array([(ends[name] - low) / (high - low) for name in names])
  # Halfway between pushing up and pushing down, all distances are kept; so they
  # are by the two bounds.
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
