"""A section on scorers of labelled pairs: reward models, judges, policies."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib
import numpy as np

from jalign.errors import UserError
from jalign.evaluation import reward_accuracy
from jalign.evaluation.calibration import Reliability, reliability
from jalign.evaluation.clustered import Mean
from jalign.evaluation.scored_pairs import ScoredPairs
from jalign.pages.contents import Details, Figure, Section, Table, with_ends
from jalign.pages.style import (
  STYLE,
  Looks,
  Path,
  legend_below,
  new_figure,
  run_colours,
  save_figure,
)
from jalign.pages.traces import explain

Scored = Mapping[str, ScoredPairs]
_GREY = "#888888"
_SIDES = ("chosen", "-"), ("rejected", "--")

_NOTES = (
  "*Accuracy*: share of the labels that the scorer agrees with; ties count one"
  " half. *NLL*: negative log-likelihood of the labels under the scorer's"
  " preferences, nats a pair; ln 2 = 0.693 is that of a coin. *ECE*, *MCE*:"
  " mean and largest difference of confidence and accuracy over ten bins of"
  " equal width; *ACE*: the mean over ten bins of equally many pairs. The"
  " confidence is the probability of whichever response the scorer prefers."
  " *Prefers the longer*: share of the pairs of unequal length, and the share"
  " by the labels, which is no bias. In brackets are the ends of 95 %"
  " intervals, clustered by prompt."
)


def reward_model_section(
  scored: Scored,
  folder: Path,
  *,
  title: str = "Reward model on held-out pairs",
  name: str = "reward_model",
  looks: Looks | None = None,
) -> Section:
  """A section with a table, a figure and the bins of its reliability diagram.

  Args:
    scored: name of a scorer -> its numbers on labelled pairs.
    folder: the report's folder; the figure goes to its `plots/`.
    title: title of the section.
    name: name of the figure's file, without ending.
    looks: from `run_colours`.
  """
  path = plot_scored(
    scored, pathlib.Path(folder) / "plots" / f"{name}.png", looks=looks
  )
  content: list[Any] = [accuracy_table(scored), Figure(path, _caption(scored))]
  content.append(_NOTES)
  raters = rater_table(scored)
  if raters is not None:
    content.append(raters)
  content.append(Details("Bins of the figure", _bins(scored)))
  return Section(title, content)


def plot_scored(
  scored: Scored, path: Path, *, title: str = "", looks: Looks | None = None
) -> pathlib.Path:
  """Draws reliability, scores, and accuracy by gap of scores and of lengths.

  Args:
    scored: name of a scorer -> its numbers on labelled pairs.
    path: the file: .png, .pdf or .svg.
    title: title above the panels.
    looks: from `run_colours`; by default for these scorers.

  Raises:
    UserError: there is no scorer.
  """
  if not scored:
    raise UserError("there is nothing to plot.", where=str(path))
  looks = run_colours(list(scored)) if looks is None else looks
  single = len(scored) == 1
  some = next(iter(scored.values()))
  scores = single and some.chosen is not None
  panels: list[tuple[str, Callable[..., None]]] = [
    ("Reliability", _reliability),
    ("Scores" if scores else "Margins", _scores if scores else _margins),
    ("Accuracy by gap of the scores", _by_gap),
  ]
  if any(reward_accuracy.by_length(pairs) for pairs in scored.values()):
    panels.append(("By gap of the lengths", _by_length))
  with matplotlib.rc_context(STYLE | {"lines.linewidth": 1.5}):
    shape = (2, 2) if len(panels) == 4 else (1, 3)
    figure = new_figure(4 * shape[1], 3.1 * shape[0], title)
    grid = figure.subplots(*shape, squeeze=False).ravel()
    for axes, (heading, draw) in zip(grid, panels, strict=True):
      draw(axes, scored, looks)
      axes.set_title(heading)
    if not single:
      legend_below(figure, {n: (looks[n][0], "-") for n in scored})
    return save_figure(figure, path)


def accuracy_table(scored: Scored) -> Table:
  """A row of numbers for each scorer, or a column if there are fewer."""
  columns = {name: _numbers(pairs) for name, pairs in scored.items()}
  labels = list(dict.fromkeys(x for row in columns.values() for x in row))
  if len(scored) > 4:
    return Table(
      ("scorer", *labels),
      [(n, *(row.get(x, "") for x in labels)) for n, row in columns.items()],
    )
  return Table(
    ("on held-out pairs", *columns),
    [(x, *(row.get(x, "") for row in columns.values())) for x in labels],
  )


def rater_table(scored: Scored) -> Table | None:
  """Accuracy by rater, or by group of raters; None without raters."""
  found = {n: reward_accuracy.by_rater(pairs) for n, pairs in scored.items()}
  raters = {r: n for by in found.values() for r, (n, _) in by.items()}
  if not raters:
    return None
  return Table(
    ("rater", "pairs", *(f"accuracy of {name}" for name in found)),
    [
      (
        str(rater),
        count,
        *(_share(by[rater][1]) if rater in by else "" for by in found.values()),
      )
      for rater, count in raters.items()
    ],
  )


def _numbers(pairs: ScoredPairs) -> dict[str, Any]:
  """Label with its unit -> what the table shows."""
  wide = reliability(pairs.margins, labels=pairs.labels, groups=pairs.groups)
  equal = reliability(pairs.margins, labels=pairs.labels, equal_mass=True)
  nll = reward_accuracy.negative_log_likelihood(pairs)
  numbers: dict[str, Any] = {
    "pairs": len(pairs),
    "accuracy": _share(reward_accuracy.accuracy(pairs)),
    "NLL (nats)": with_ends(nll.mean, *nll.interval, form=".3f"),
    "ECE": wide.ece,
    "MCE": wide.mce,
    "ACE": equal.ece,
    **({"without an answer": pairs.missing} if pairs.missing else {}),
    "ties": f"{100 * reward_accuracy.tied_share(pairs):.1f} %",
  }
  bias = reward_accuracy.length_bias(pairs)
  if bias is not None:
    numbers |= {
      "prefers the longer": _share(bias.scorer),
      "labels prefer the longer": _share(bias.labels),
      "accuracy, chosen longer": _share(bias.chosen_longer),
      "accuracy, chosen shorter": _share(bias.chosen_shorter),
    }
  gap = reward_accuracy.bayes_gap(pairs)
  if gap is not None:
    if pairs.exact is not None and (pairs.exact != pairs.labels).any():
      numbers["expected accuracy"] = _share(gap.accuracy)
    numbers |= {
      "best possible accuracy": _share(gap.best_accuracy),
      "KL from the labels' probabilities (nats)": with_ends(
        gap.nll_gap.mean, *gap.nll_gap.interval, form=".3f"
      ),
    }
  return numbers


def _share(mean: Mean) -> str:
  low, high = mean.interval
  return with_ends(100 * mean.mean, 100 * low, 100 * high, unit=" %")


def _caption(scored: Scored) -> str:
  several = len(scored) > 1
  text = (
    "Reliability: how often the preferred response is the labelled one, by"
    " confidence, in bins of equally many pairs; on the grey line confidence is"
    " right. Accuracy by gap: a scorer whose scores are log-odds lies on the"
    " grey curve. "
  )
  if any(reward_accuracy.by_length(pairs) for pairs in scored.values()):
    text += (
      "By gap of the lengths: how often the scorer is right, how often it"
      " prefers the longer response, and how often the labels do"
      f"{', by the first scorer' if several else ''}. "
    )
  return text + "Bars are 95 % intervals, clustered by prompt."


def _curve(axes, x, means, colour: str, style: str = "-") -> None:
  """Draws means in per cent with their intervals."""
  y = np.array([100 * m.mean for m in means])
  ends = np.array([[100 * end for end in m.interval] for m in means])
  axes.plot(x, y, style, color=colour, marker="o")
  axes.vlines(x, ends[:, 0], ends[:, 1], color=colour, linewidth=1, alpha=0.7)


def binned(pairs: ScoredPairs) -> Reliability:
  """The bins that are drawn: 10 of equal mass, 5 of fewer than 100 pairs."""
  return reliability(
    pairs.margins,
    10 if len(pairs) >= 100 else 5,
    equal_mass=True,
    labels=pairs.labels,
    groups=pairs.groups,
  )


def _reliability(axes, scored: Scored, looks: Looks) -> None:
  axes.plot([50, 100], [50, 100], color=_GREY, linewidth=0.8)
  for name, pairs in scored.items():
    bins, colour = binned(pairs), looks[name][0]
    full = bins.pairs > 0
    x = 100 * bins.confidence[full]
    axes.plot(x, 100 * bins.accuracy[full], "o-", color=colour)
    low, high = 100 * bins.low[full], 100 * bins.high[full]
    axes.vlines(x, low, high, color=colour, linewidth=1, alpha=0.7)
  axes.set(xlabel="confidence (%)", ylabel="right (%)")


def _scores(axes, scored: Scored, looks: Looks) -> None:
  ((name, pairs),) = scored.items()
  assert pairs.chosen is not None and pairs.rejected is not None
  colour = looks[name][0]
  edges = _edges(np.concatenate([pairs.chosen, pairs.rejected]))
  for (side, style), values in zip(_SIDES, (pairs.chosen, pairs.rejected)):
    heights, _ = np.histogram(values, edges)
    axes.stairs(heights, edges, color=colour, linestyle=style, linewidth=1.5)
    if side == "chosen":
      axes.stairs(heights, edges, fill=True, color=colour, alpha=0.12)
  axes.set(xlabel="score", ylabel="responses")
  explain(axes, dict(_SIDES))


def _margins(axes, scored: Scored, looks: Looks) -> None:
  finite = {n: x.margins[np.isfinite(x.margins)] for n, x in scored.items()}
  edges = _edges(np.concatenate(list(finite.values())))
  for name, values in finite.items():
    heights, _ = np.histogram(values, edges)
    axes.stairs(heights, edges, color=looks[name][0], linewidth=1.5)
  axes.axvline(0, color=_GREY, linewidth=0.8)
  axes.set(xlabel="log-odds of the chosen response", ylabel="pairs")


def _edges(values: np.ndarray) -> np.ndarray:
  """Edges of at most 30 bins; equal numbers get bins around them."""
  ends = values if values.size else np.zeros(1)
  low, high = float(ends.min()), float(ends.max())
  if low == high:
    low, high = low - 1, high + 1
  bins = int(np.clip(np.sqrt(values.size), 8, 30))
  return np.linspace(low, high, bins + 1)


def _by_gap(axes, scored: Scored, looks: Looks) -> None:
  last = 0.0
  for name, pairs in scored.items():
    bins = [b for b in reward_accuracy.by_gap(pairs) if np.isfinite(b.middle)]
    if bins:
      x = [b.middle for b in bins]
      _curve(axes, x, [b.accuracy for b in bins], looks[name][0])
      last = max(last, *x)
  at = np.linspace(0, last or 1.0, 100)
  axes.plot(at, 50 * (1 + np.tanh(at / 2)), color=_GREY, linewidth=0.8)
  axes.set(xlabel="gap (log-odds)", ylabel="right (%)")


def _by_length(axes, scored: Scored, looks: Looks) -> None:
  styles: dict[str, str] = {}
  several = len(scored) > 1
  for i, (name, pairs) in enumerate(scored.items()):
    bins, colour = reward_accuracy.by_length(pairs), looks[name][0]
    if not bins:
      continue
    x = [b.middle for b in bins]
    _curve(axes, x, [b.accuracy for b in bins], colour)
    styles["right"] = "-"
    longer = [100 * b.longer.mean for b in bins if b.longer]
    axes.plot(x, longer, "--", color=colour)
    styles["prefers the longer"] = "--"
    if not i:
      own = [100 * b.labelled_longer.mean for b in bins if b.labelled_longer]
      axes.plot(x, own, ":", color=_GREY if several else colour)
      styles["labels prefer the longer"] = ":"
  axes.set(xlabel="gap (tokens)", ylabel="% of pairs", ylim=(-3, 103))
  explain(axes, styles, "lower left")


def _bins(scored: Scored) -> Table:
  """The bins of the reliability diagram, with numbers of pairs."""
  rows = []
  for name, pairs in scored.items():
    bins = binned(pairs)
    for i in np.flatnonzero(bins.pairs).tolist():
      ends = (100 * x[i] for x in (bins.accuracy, bins.low, bins.high))
      rows.append(
        (
          name,
          f"{100 * bins.confidence[i]:.1f} %",
          with_ends(*ends, unit=" %"),
          int(bins.pairs[i]),
        )
      )
  return Table(("scorer", "mean confidence", "right", "pairs"), rows)
