"""Panels of the page on what a loss did to a policy in training."""

from collections.abc import Sequence
from typing import Any

from jalign.diagnostics.policy import reversal
from jalign.evaluation.calibration import reliability
from jalign.pages.gains import gains, preferences, rewards, spreads
from jalign.pages.style import Looks, new_figure
from jalign.pages.traces import Drawing, Dynamics, Panel, Runs, explain

SIDES: tuple[tuple[str, Any], ...] = (("chosen", "-"), ("rejected", "--"))
CASES = ("ideal", "both_up", "both_down", "reversed")
_CASE_COLOURS = ("#009E73", "#56B4E9", "#E69F00", "#D55E00")
# Where cosines and forecast cases come from: a probe, or else training steps.
_PARTS = ("entanglement/all/", "train/last_layer_")
# Where log-ratios come from: held-out pairs, or else training batches.
MEASURED, TRAINED = ("likelihood/{}", "eval/{}"), ("train/{}",)


def _log_ratios(sources: Sequence[str]) -> Drawing:
  """Chosen and rejected log pi / ref; for one run, also their middle 80 %."""

  def draw(axes, runs: Runs, looks) -> bool:
    drawn = False
    for name, run in runs.items():
      if sources == TRAINED and _curves(run, MEASURED, "chosen_log_ratio_nats"):
        continue
      colour = looks[name][0]
      for side, style in SIDES:
        curve = _curves(run, sources, f"{side}_log_ratio_nats")
        if curve is None:
          continue
        drawn = True
        axes.plot(*curve, style, color=colour)
        low, high = (
          run.curve(f"likelihood/{side}_log_ratio_p{q}_nats") for q in (10, 90)
        )
        if len(runs) == 1 and sources == MEASURED and low and high:
          axes.fill_between(low[0], low[1], high[1], color=colour, alpha=0.12)
    axes.axhline(0, color="#888888", linewidth=0.8)
    axes.set_ylabel("log pi / ref (nats)")
    explain(axes, dict(SIDES))
    return drawn

  return draw


def _curves(run: Dynamics, sources: Sequence[str], name: str):
  return run.curve(*(source.format(name) for source in sources))


def _cosines(axes, runs: Runs, looks) -> bool:
  """Cosine of the two gradients, and the threshold that it must stay below."""
  drawn = False
  for name, run in runs.items():
    for part in _PARTS:
      cosine = run.curve(f"{part}cosine")
      bound = run.curve(f"{part}cosine_threshold")
      if cosine is not None:
        axes.plot(*cosine, color=looks[name][0])
        if bound is not None:
          axes.plot(*bound, ":", color=looks[name][0])
        drawn = True
        break
  axes.set_ylabel("cosine")
  return drawn


def _cases(axes, runs: Runs, looks) -> bool:
  """Shares of a single run's forecast cases; of several runs, the ideal's."""
  keys = lambda case: [f"{part}{case}_share" for part in _PARTS]
  axes.set_ylim(-3, 103)  # so that lines at 0 and 100 are fully visible
  axes.set_ylabel("% of pairs")
  if len(runs) > 1:
    axes.set_ylabel("% of pairs forecast as ideal")
    drawn = False
    for name, run in runs.items():
      curve = run.curve(*keys("ideal"))
      if curve is not None:
        axes.plot(curve[0], 100 * curve[1], color=looks[name][0])
        drawn = True
    return drawn
  (run,) = runs.values()
  curves = [run.curve(*keys(case)) for case in CASES]
  measured = [curve for curve in curves if curve is not None]
  if len(measured) < len(CASES):
    return False
  axes.stackplot(
    measured[0][0],
    *(100 * values for _, values in measured),
    colors=_CASE_COLOURS,
    labels=[case.replace("_", " ") for case in CASES],
    alpha=0.85,
  )
  axes.legend(loc="lower left", fontsize="x-small", framealpha=0.85)
  return True


def _changes(axes, runs: Runs, looks) -> bool:
  """Changes of both log-probs in single steps."""
  drawn = False
  for name, run in runs.items():
    for side, style in SIDES:
      curve = run.curve(f"realised/{side}_change_nats")
      if curve is not None:
        axes.plot(*curve, style, color=looks[name][0])
        drawn = True
  axes.axhline(0, color="#888888", linewidth=0.8)
  axes.set_ylabel("change in one step (nats)")
  explain(axes, dict(SIDES))
  return drawn


def _indicator(key: str, ylabel: str) -> Drawing:
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
  """Accuracies of the policy, of its implicit reward, and of the optimum."""
  drawn = {}
  for name, run in runs.items():
    for keys, style, label in _ACCURACIES:
      curve = run.curve(*keys)
      if curve is not None:
        axes.plot(curve[0], 100 * curve[1], style, color=looks[name][0])
        drawn[label] = style
  axes.set_ylabel("accuracy (%)")
  explain(axes, drawn)
  return bool(drawn)


def _calibration(axes, runs: Runs, looks) -> bool:
  """Reliability of the implicit rewards at the last probe."""
  drawn = False
  for name, run in runs.items():
    if run.beta is None or "ref_chosen_logps_nats" not in run.pairs:
      continue
    ratio = lambda side, run=run: (
      run.pairs[f"{side}_logps_nats"] - run.pairs[f"ref_{side}_logps_nats"]
    )
    margins = run.beta * (ratio("chosen") - ratio("rejected"))
    bins = 10 if len(margins) >= 100 else 5
    calibration = reliability(margins, bins, equal_mass=True)
    axes.plot(
      100 * calibration.confidence,
      100 * calibration.accuracy,
      "o-",
      color=looks[name][0],
    )
    drawn = True
  axes.plot([50, 100], [50, 100], color="#888888", linewidth=0.8)
  axes.set(xlabel="confidence (%)", ylabel="right (%)")
  return drawn


def panels(runs: Runs, looks: Looks) -> list[Panel]:
  """The panels that have something to show."""
  several = len(runs) > 1
  candidates = [
    Panel("Log-probs of held-out pairs", _log_ratios(MEASURED), split=True),
    Panel("Log-probs of training batches", _log_ratios(TRAINED), split=True),
    Panel(_entanglement(runs), _cosines),
    Panel("Forecast of a step" + (": ideal" if several else ""), _cases),
    Panel("What a step did", _changes),
    Panel(
      "Top-k entropy", _indicator("policy/top_k_entropy_bits", "bits a token")
    ),
    Panel("Top-k mass", _indicator("policy/top_k_mass", "probability")),
    Panel("Accuracies on held-out pairs", _accuracies),
    Panel("Calibration of implicit rewards", _calibration, ""),
    Panel("Preferences between training samples", preferences),
    Panel("Reward of training samples", rewards("rollouts/reward")),
    Panel("Spread of that reward", spreads),
    Panel("Reward of held-out samples", rewards("samples/reward")),
    *gains(runs),
  ]
  return [panel for panel in candidates if is_drawn(panel, runs, looks)]


def _entanglement(runs: Runs) -> str:
  """A title that names the gradients that the cosine is of."""
  every, last = (
    [run for run in runs.values() if run.curve(f"{part}cosine")]
    for part in _PARTS
  )
  if every or not last:
    return "Entanglement: cosine, threshold dotted"
  return "Entanglement, last layer; threshold dotted"


def is_drawn(panel: Panel, runs: Runs, looks: Looks) -> bool:
  """Whether a panel has something to show of some of the runs."""
  scratch = new_figure(1, 1, "").subplots()
  return panel.draw(scratch, runs, looks)
