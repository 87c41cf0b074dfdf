"""Win rates with their errors, plots and reports."""

from jalign.evaluation.best_of_n import best_of_n
from jalign.evaluation.clustered import Mean, clustered_mean, clustered_share
from jalign.evaluation.cycle import plot_cycle
from jalign.evaluation.diversity import distinct_n
from jalign.evaluation.frontier import FrontierPoint, plot_frontier
from jalign.evaluation.plots import (
  plot_bars_with_intervals,
  plot_curves,
  plot_metrics,
  plot_panels,
  plot_win_matrix,
)
from jalign.evaluation.report import (
  Details,
  Figure,
  Samples,
  Section,
  Table,
  write_report,
)
from jalign.evaluation.style import run_colours
from jalign.evaluation.win_rate import (
  LengthAdjusted,
  WinMatrix,
  WinRate,
  head_to_head,
  length_adjusted,
  win_matrix,
  win_rate,
)

__all__ = [
  "Details",
  "Figure",
  "FrontierPoint",
  "LengthAdjusted",
  "Mean",
  "Samples",
  "Section",
  "Table",
  "WinMatrix",
  "WinRate",
  "best_of_n",
  "clustered_mean",
  "clustered_share",
  "distinct_n",
  "head_to_head",
  "length_adjusted",
  "plot_bars_with_intervals",
  "plot_curves",
  "plot_cycle",
  "plot_frontier",
  "plot_metrics",
  "plot_panels",
  "plot_win_matrix",
  "run_colours",
  "win_matrix",
  "win_rate",
  "write_report",
]
