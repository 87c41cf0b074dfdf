"""Plots and reports, from pure data to files."""

from jalign.pages.contents import Details, Figure, Samples, Section, Table
from jalign.pages.cycle import plot_cycle
from jalign.pages.frontier import FrontierPoint, plot_frontier
from jalign.pages.plots import (
  plot_bars_with_intervals,
  plot_curves,
  plot_metrics,
  plot_panels,
  plot_win_matrix,
)
from jalign.pages.report import write_report
from jalign.pages.reward_model import plot_scored, reward_model_section
from jalign.pages.style import run_colours

__all__ = [
  "Details",
  "Figure",
  "FrontierPoint",
  "Samples",
  "Section",
  "Table",
  "plot_bars_with_intervals",
  "plot_curves",
  "plot_cycle",
  "plot_frontier",
  "plot_metrics",
  "plot_panels",
  "plot_scored",
  "plot_win_matrix",
  "reward_model_section",
  "run_colours",
  "write_report",
]
