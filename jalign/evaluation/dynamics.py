"""One page on what a loss did to a policy while it trained, runs overlaid.

A panel appears where its quantity was measured. Runs differ by colour, chosen
and rejected responses by line style.
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from jalign.diagnostics.policy import reversal
from jalign.diagnostics.preference import reliability
from jalign.errors import UserError
from jalign.evaluation.style import (
  PALETTE,
  STYLE,
  Path,
  new_figure,
  run_colours,
  save_figure,
)

SIDES: tuple[tuple[str, Any], ...] = (("chosen", "-"), ("rejected", "--"))
_ALONE = {"chosen": PALETTE[0], "rejected": PALETTE[1]}  # of a single run
CASES = ("ideal", "both_up", "both_down", "reversed")
_CASE_COLOURS = ("#009E73", "#56B4E9", "#E69F00", "#D55E00")


class Dynamics(NamedTuple):
  """What a run left of one stage.

  Attributes:
    rows: its metrics, from `jalign.training.metrics.read_jsonl`.
    pairs: arrays of the probe's pairs at the last probe; {} without one.
    beta: temperature of its implicit rewards; None where it has none.
  """

  rows: Sequence[Mapping[str, Any]]
  pairs: Mapping[str, np.ndarray]
  beta: float | None

  def curve(self, *names: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Steps and values of the first of some metrics that was measured."""
    for name in names:
      found = [(row["step"], row[name]) for row in self.rows if name in row]
      if found:
        steps, values = zip(*found)
        return np.asarray(steps), np.asarray(values, np.float64)
    return None


Runs = Mapping[str, Dynamics]


def _colour(runs: Runs, looks, name: str, side: str):
  return looks[name][0] if len(runs) > 1 else _ALONE[side]


def _log_ratios(axes, runs: Runs, looks) -> bool:
  """Chosen and rejected log pi / ref, with the middle 80 % of one run."""
  drawn = False
  for name, run in runs.items():
    for side, style in SIDES:
      key = f"likelihood/{side}_log_ratio"
      curve = run.curve(f"{key}_nats", f"eval/{side}_log_ratio")
      curve = curve or run.curve(f"{side}_log_ratio")
      if curve is None:
        continue
      drawn = True
      colour = _colour(runs, looks, name, side)
      axes.plot(*curve, style, color=colour)
      low, high = (run.curve(f"{key}_p{q}_nats") for q in (10, 90))
      if len(runs) == 1 and low and high:
        axes.fill_between(low[0], low[1], high[1], color=colour, alpha=0.12)
  axes.axhline(0, color="#888888", linewidth=0.8)
  axes.set_ylabel("log pi / ref (nats)")
  return drawn


def _cosines(axes, runs: Runs, looks) -> bool:
  """Cosine of the two gradients, and below what it has to stay."""
  drawn = False
  for name, run in runs.items():
    for part in ("all", "last_layer"):
      cosine = run.curve(f"entanglement/{part}/cosine")
      bound = run.curve(f"entanglement/{part}/cosine_threshold")
      if cosine is not None:
        axes.plot(*cosine, color=looks[name][0])
        if bound is not None:
          axes.plot(*bound, ":", color=looks[name][0])
        drawn = True
        break
  axes.set_ylabel("cosine")
  return drawn


def _cases(axes, runs: Runs, looks) -> bool:
  """Shares of the forecast cases of one run; of several, the ideal's."""
  parts = ("all", "last_layer")
  keys = lambda case: [f"entanglement/{p}/{case}_share" for p in parts]
  axes.set_ylim(0, 100)
  axes.set_ylabel("% of pairs")
  if len(runs) > 1:
    drawn = False
    for name, run in runs.items():
      curve = run.curve(*keys("ideal"))
      if curve is not None:
        axes.plot(curve[0], 100 * curve[1], color=looks[name][0])
        drawn = True
    return drawn
  (run,) = runs.values()
  curves = [run.curve(*keys(case)) for case in CASES]
  found = [curve for curve in curves if curve is not None]
  if len(found) < len(CASES):
    return False
  axes.stackplot(
    found[0][0],
    *(100 * values for _, values in found),
    colors=_CASE_COLOURS,
    labels=[case.replace("_", " ") for case in CASES],
    alpha=0.85,
  )
  axes.legend(loc="lower left", fontsize="x-small", framealpha=0.85)
  return True


def _changes(axes, runs: Runs, looks) -> bool:
  """What single steps did to both log-probs."""
  drawn = False
  for name, run in runs.items():
    for side, style in SIDES:
      curve = run.curve(f"entanglement/realised/{side}_change_nats")
      if curve is not None:
        axes.plot(*curve, style, color=_colour(runs, looks, name, side))
        drawn = True
  axes.axhline(0, color="#888888", linewidth=0.8)
  axes.set_ylabel("change in one step (nats)")
  return drawn


def _indicator(key: str, ylabel: str) -> Callable[..., bool]:
  def draw(axes, runs: Runs, looks) -> bool:
    drawn = False
    for name, run in runs.items():
      curve = run.curve(key)
      if curve is None:
        continue
      steps, values = curve
      axes.plot(steps, values, color=looks[name][0])
      turn = reversal(values, falls=True)
      if turn is not None:
        axes.plot(
          steps[turn], values[turn], "v", color=looks[name][0], markersize=7
        )
      drawn = True
    axes.set_ylabel(ylabel)
    return drawn

  return draw


_ACCURACIES = (
  (("likelihood/ranking_accuracy", "eval/ranking_accuracy"), "-", "ranking"),
  (("likelihood/reward_accuracy", "eval/reward_accuracy"), "--", "reward"),
  (("likelihood/idealised_accuracy",), ":", "idealised ranking"),
)


def _accuracies(axes, runs: Runs, looks) -> bool:
  """Rankings by the policy, by its implicit reward, and at the optimum."""
  drawn = {}
  for name, run in runs.items():
    for keys, style, label in _ACCURACIES:
      curve = run.curve(*keys)
      if curve is not None:
        axes.plot(curve[0], 100 * curve[1], style, color=looks[name][0])
        drawn[label] = style
  axes.set_ylabel("accuracy (%)")
  _explain(axes, drawn)
  return bool(drawn)


def _calibration(axes, runs: Runs, looks) -> bool:
  """Reliability of the implicit rewards at the last probe."""
  drawn = False
  for name, run in runs.items():
    if run.beta is None or "policy_chosen_nats" not in run.pairs:
      continue
    ratio = lambda side, run=run: (
      run.pairs[f"policy_{side}_nats"] - run.pairs[f"reference_{side}_nats"]
    )
    margins = run.beta * (ratio("chosen") - ratio("rejected"))
    bins = 10 if len(margins) >= 100 else 5
    found = reliability(margins, bins, equal_mass=True)
    axes.plot(
      100 * found.confidence,
      100 * found.accuracy,
      "o-",
      color=looks[name][0],
    )
    drawn = True
  axes.plot([50, 100], [50, 100], color="#888888", linewidth=0.8)
  axes.set(xlabel="confidence (%)", ylabel="right (%)")
  return drawn


def _frontier(axes, runs: Runs, looks) -> bool:
  """What samples gained, against how far the policy went."""
  drawn, gains = False, set()
  for name, run in runs.items():
    kl = run.curve("samples/kl_k1_nats", "eval/kl")
    keys = {k for row in run.rows for k in row if k.startswith("samples/")}
    rewards = sorted(k for k in keys if "reward" in k)
    gain = next(
      (
        k
        for k in (*rewards, "samples/win_rate", "eval/win_rate")
        if run.curve(k) is not None
      ),
      None,
    )
    found = run.curve(gain) if gain else None
    if gain is None or kl is None or found is None:
      continue
    if len(kl[1]) != len(found[1]):
      continue
    distance = np.sqrt(np.maximum(kl[1], 0))
    scale = 100 if gain.endswith("win_rate") else 1
    axes.plot(distance, scale * found[1], "o-", color=looks[name][0])
    gains.add(
      "win rate over the start (%)"
      if scale == 100
      else f"mean {gain.removeprefix('samples/').replace('_', ' ')}"
    )
    drawn = True
  axes.set_xlabel("sqrt KL to the start (nats)")
  axes.set_ylabel(" | ".join(sorted(gains)))
  return drawn


_PANELS: tuple[tuple[str, Callable[..., bool], str], ...] = (
  ("Log-probs of held-out pairs", _log_ratios, "step"),
  ("Entanglement: cosine, threshold dotted", _cosines, "step"),
  ("Forecast of a step", _cases, "step"),
  ("What a step did", _changes, "step"),
  (
    "Top-k entropy",
    _indicator("policy/top_k_entropy_bits", "bits a token"),
    "step",
  ),
  ("Top-k mass", _indicator("policy/top_k_mass", "probability"), "step"),
  ("Accuracies", _accuracies, "step"),
  ("Calibration of implicit rewards", _calibration, ""),
  ("Gain and distance", _frontier, ""),
)


def plot_dynamics(runs: Runs, path: Path, *, title: str = "") -> pathlib.Path:
  """Draws the page.

  Args:
    runs: name -> what it left; up to 28.
    path: of the PNG file.
    title: above the panels.

  Raises:
    UserError: nothing was measured.
  """
  looks = run_colours(list(runs))
  panels = [p for p in _PANELS if _is_drawn(p, runs, looks)]
  if not panels:
    raise UserError(
      "nothing was measured that this page shows.",
      where=str(path),
      remedy="Train with --config.diagnostics.likelihood=probe, for example.",
    )
  columns = min(3, len(panels))
  rows = -(-len(panels) // columns)
  with matplotlib.rc_context(STYLE | {"lines.linewidth": 1.5}):
    figure = new_figure(3.5 * columns, 2.7 * rows + 0.7, title)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (name, draw, xlabel) in zip(grid, panels):
      draw(axes, runs, looks)
      axes.set_title(name)
      if xlabel:
        axes.set_xlabel(xlabel)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes.margins(x=0.02)
    for axes in grid[len(panels) :]:
      axes.set_visible(False)
    lines = [
      Line2D(
        [],
        [],
        color="#444444" if len(runs) > 1 else _ALONE[side],
        linestyle=style,
      )
      for side, style in SIDES
    ]
    labels = [side for side, _ in SIDES]
    if len(runs) > 1:
      lines += [
        Line2D([], [], color=looks[run][0], linewidth=3) for run in runs
      ]
      labels += list(runs)
    figure.legend(
      lines,
      labels,
      loc="outside lower center",
      ncols=min(len(labels), 6),
      frameon=False,
    )
    return save_figure(figure, path)


def _is_drawn(panel, runs, looks) -> bool:
  scratch = new_figure(1, 1, "").subplots()
  return panel[1](scratch, runs, looks)


def _explain(axes, styles: Mapping[str, Any]) -> None:
  lines = [
    Line2D([], [], color="#444444", linestyle=style)
    for style in styles.values()
  ]
  axes.legend(
    lines, list(styles), loc="best", fontsize="x-small", framealpha=0.85
  )
