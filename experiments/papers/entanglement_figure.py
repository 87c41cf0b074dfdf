"""Draws the figure of `entanglement_trained`."""

import numpy as np
from matplotlib.figure import Figure

from jalign.pages.style import PALETTE, new_figure

COLUMNS = 5


def draw(courses, heats) -> Figure:
  """Draws log-ratios of every loss, agreement of forecasts, and heat maps.

  Args:
    courses: loss -> Course of `entanglement_trained`.
    heats: name -> Heat of `token_heat`.
  """
  rows = -(-len(courses) // COLUMNS)
  figure = new_figure(12.5, 2.1 * rows + 7.0, "")
  top, below = figure.subfigures(2, 1, height_ratios=[2.1 * rows, 7.0])
  grid = top.subplots(rows, COLUMNS, sharex=True, squeeze=False).ravel()
  for axes, (name, course) in zip(grid, courses.items()):
    for i, (side, style) in enumerate((("chosen", "-"), ("rejected", "--"))):
      axes.plot(
        course.steps, course.ratios[:, i], style, color=PALETTE[i], label=side
      )
    axes.axhline(0, color="#888888", linewidth=0.8)
    axes.set_title(name)
  for axes in grid[::COLUMNS]:
    axes.set_ylabel("log pi/ref (nats)")
  for axes in grid[-COLUMNS:]:
    axes.set_xlabel("step")
  grid[0].legend(fontsize="x-small")
  for axes in grid[len(courses) :]:
    axes.set_visible(False)
  left, right = below.subfigures(1, 2, width_ratios=[1, 2.1])
  _pairs(left, courses)
  _maps(right, heats)
  return figure


def _pairs(figure, courses) -> None:
  """Draws how often a step of SGD, and of Adam, did what was forecast."""
  axes = figure.subplots(2, 1, sharex=True)
  names = list(courses)
  for panel, which, title in (
    (axes[0], "sgd", "SGD on the pair: as forecast"),
    (axes[1], "adam", "Adam on the pair: as forecast"),
  ):
    rates = []
    for course in courses.values():
      counts = [x.agreement(getattr(x, which)) for x in course.looks.values()]
      right, total = map(sum, zip(*counts))
      rates.append(100 * right / total)
    panel.bar(names, rates, color=PALETTE[0 if which == "sgd" else 1])
    panel.set(title=title, ylabel="% of pairs", ylim=(0, 105))
    panel.grid(axis="x", visible=False)
  axes[1].tick_params(axis="x", rotation=60)


def _maps(figure, heats) -> None:
  """Draws cosines of token gradients, chosen tokens down, rejected across."""
  axes = figure.subplots(1, len(heats), squeeze=False)[0]
  for panel, (name, heat) in zip(axes, heats.items()):
    image = panel.imshow(heat.cosine, cmap="RdBu_r", vmin=-1, vmax=1)
    panel.set_title(f"{name}: cosine of token gradients")
    panel.set_xticks(
      np.arange(len(heat.rejected)), heat.rejected, rotation=90, fontsize=6.5
    )
    panel.set_yticks(np.arange(len(heat.chosen)), heat.chosen, fontsize=6.5)
    panel.set(xlabel="rejected", ylabel="chosen")
    panel.grid(visible=False)
  figure.colorbar(image, ax=list(axes), shrink=0.6)
