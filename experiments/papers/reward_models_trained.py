"""What do reward models learn from pairs, and what else learns the same?

python -m experiments.papers.reward_models_trained --out=experiments/results

Reward models of two SFT policies (`policies`): one of the TL;DR world, where
the labels are draws of a known rater and the best possible accuracy is known,
and one of Anthropic's dialogues. In the world, with three numbers of pairs:
the reward model of Stiennon et al. 2020 (arXiv:2009.01325); beside it, as in
Askell et al. 2021 (arXiv:2112.00861), discrimination of single responses and
imitation of the good ones; and, as in Lin et al. 2024 (arXiv:2409.03650), the
implicit reward of DPO on pairs that differ from those of training.
"""

import sys

import numpy as np
from matplotlib.figure import Figure

from experiments.papers import policies
from experiments.papers.claims import Claim, report
from experiments.papers.reward_model_runs import (
  BETA,
  HELD_OUT,
  RATES,
  SIZES,
  Dialogues,
  World,
  run_dialogues,
  run_world,
)
from experiments.papers.scorers import by_size, difference, rows_of, told
from jalign import evaluation
from jalign.evaluation import ScoredPairs
from jalign.evaluation.clustered import Mean
from jalign.pages.style import PALETTE, new_figure

STIENNON = "Stiennon et al. 2020, arXiv:2009.01325"
ASKELL = "Askell et al. 2021, arXiv:2112.00861"
LIN = "Lin et al. 2024, arXiv:2409.03650"
BAI = "Bai et al. 2022, arXiv:2204.05862"


# --------------------------------------------------------------------- report


def world_claims(w: World) -> list[Claim]:
  """The papers' claims about the world's models."""
  finding = lambda paper, claim, ours, holds: Claim(
    paper, claim, ours, holds, True
  )
  share = lambda pairs: evaluation.accuracy(pairs).mean
  own = w.scores["preference model"]
  small, large = (share(own[n]) for n in (min(SIZES), max(SIZES)))
  gaps = {n: _gap(pairs) for n, pairs in own.items()}
  best = _best(own[max(SIZES)])
  every = [p for by in w.scores.values() for p in by.values()]
  every += [p for by in w.shifted.values() for p in by.values()]
  low, high = w.reference.interval
  beyond = {
    name: {n: difference(own[n], p) for n, p in by.items()}
    for name, by in w.scores.items()
    if name != "preference model"
  }
  points = lambda by: ", ".join(
    f"{n:,}: {told(d, True)}" for n, d in by.items()
  )
  ahead = {
    name: difference(both["explicit"], both["implicit"])
    for name, both in w.shifted.items()
  }
  leads = "; ".join(f"{name}: {told(d, True)}" for name, d in ahead.items())
  return [
    Claim(
      "derived",
      "no model's expected accuracy exceeds that of the labels' own"
      " probabilities",
      f"{len(every)} sets of scores; smallest gap"
      f" {100 * min(map(_gap, every)):.2f} points",
      min(map(_gap, every)) >= 0,
    ),
    finding(
      STIENNON,
      "the reward model's accuracy rises with the number of labels",
      f"pairs: %: {by_size(own, evaluation.accuracy)}; best possible"
      f" {100 * best:.1f}; gaps in points: "
      + ", ".join(f"{n:,}: {100 * g:.1f}" for n, g in gaps.items()),
      small < large and gaps[max(SIZES)] < gaps[min(SIZES)],
    ),
    finding(
      STIENNON,
      "after a constant is subtracted, reference responses have mean reward 0;"
      " here the constant is from training prompts, and the mean from others",
      f"constant {w.constant:.3f}; mean {w.reference.mean:+.3f}, interval"
      f" {low:+.3f} to {high:+.3f}",
      low <= 0 <= high,
    ),
    finding(
      ASKELL,
      "a ranked preference model orders pairs better than imitation of the good"
      " responses, at every number of pairs",
      f"points ahead, paired: {points(beyond['imitation'])}",
      all(d.interval[0] > 0 for d in beyond["imitation"].values()),
    ),
    finding(
      ASKELL,
      "on ranked data a preference model is ahead of discrimination of good and"
      " bad responses (our question: the labels are the sides of the pairs)",
      f"points ahead, paired: {points(beyond['discrimination'])}",
      beyond["discrimination"][max(SIZES)].interval[0] > 0,
    ),
    finding(
      LIN,
      "under a shift, DPO's implicit reward is less accurate than an explicit"
      " reward model of the same pairs",
      f"explicit less implicit, points, paired: {leads}",
      all(d.interval[0] > 0 for n, d in ahead.items() if n != "held out"),
    ),
  ]


def dialogue_claims(d: Dialogues) -> list[Claim]:
  """What holds of the dialogues' reward model."""
  own = evaluation.accuracy(d.pairs)
  gain = difference(d.pairs, d.start)
  bias = evaluation.length_bias(d.pairs)
  assert bias is not None
  return [
    Claim(
      BAI,
      "hh-rlhf: a reward model of a small random model beats chance on held-out"
      " pairs",
      f"{d.trained:,} pairs, one epoch: {told(own)} % of {len(d.pairs)};"
      f" {told(gain, True)} points over the SFT policy's log-probs",
      own.interval[0] > 0.5,
      True,
    ),
    Claim(
      BAI,
      "hh-rlhf: the model prefers the longer response as often as people do",
      f"{told(bias.scorer)} % of {bias.pairs}, labels {told(bias.labels)} %;"
      f" accuracy where the longer is chosen {told(bias.chosen_longer)}, where"
      f" the shorter is {told(bias.chosen_shorter)}",
      bias.difference.interval[0] <= 0 <= bias.difference.interval[1],
      True,
    ),
  ]


def _gap(pairs: ScoredPairs) -> float:
  """Points that a scorer's expected accuracy lacks, as a share."""
  found = evaluation.bayes_gap(pairs)
  assert found is not None
  return found.accuracy_gap.mean


def _best(pairs: ScoredPairs) -> float:
  found = evaluation.bayes_gap(pairs)
  assert found is not None
  return found.best_accuracy.mean


def table(w: World, d: Dialogues | None) -> str:
  """Accuracies and likelihoods of all models, in Markdown."""
  cells: list[tuple[str, ...]] = [
    ("model", "pairs", "files", "accuracy, %", "best possible, %", "NLL, nats")
  ]
  nll = lambda p: f"{evaluation.negative_log_likelihood(p).mean:.3f}"
  line = lambda model, count, name, p, odds: cells.append(
    (
      model,
      count,
      name,
      told(evaluation.accuracy(p)),
      "" if p.exact is None else f"{100 * _best(p):.1f}",
      nll(p) if odds else "",
    )
  )
  line("SFT policy's log-probs", "", "held out", w.start, False)
  for name, by in w.scores.items():
    for n, p in by.items():
      # Only differences of a preference model's scores are log-odds.
      line(name, f"{n:,}", "held out", p, name == "preference model")
  for name, both in w.shifted.items():
    line("preference model", f"{max(SIZES):,}", name, both["explicit"], True)
    line("DPO, implicit", f"{max(SIZES):,}", name, both["implicit"], True)
  if d is not None:
    line("SFT policy's log-probs", "", "hh-rlhf", d.start, False)
    line("preference model", f"{d.trained:,}", "hh-rlhf", d.pairs, True)
  note = (
    "One seed; 95 % intervals, clustered by prompt. In the world: expected"
    f" accuracy under the labels' exact probabilities, {HELD_OUT:,} pairs of"
    " posts that no model has seen, two epochs of training; the files have the"
    f" same posts. DPO: beta {BETA:g}, learning rate {w.rate:g},"
    f" the best of {', '.join(f'{r:g}' for r in RATES)} on the held-out pairs;"
    " the other learners' settings weren't searched."
  )
  more = [note, "", rows_of(cells)]
  if d is not None:
    bins = [("tokens apart", "pairs", "accuracy, %", "prefers the longer, %")]
    for b in evaluation.by_length(d.pairs, bins=4):
      assert b.longer is not None
      size = f"{b.low:.0f} to {b.high:.0f}"
      bins.append((size, str(b.pairs), told(b.accuracy), told(b.longer)))
    more += ["", "hh-rlhf, by the gap of lengths:", "", rows_of(bins)]
  return "\n".join(more)


def draw(w: World, d: Dialogues | None) -> Figure:
  """Plots accuracy over the number of pairs, under shifts, and by length."""
  title = "What reward models learn from pairs, and what else learns the same"
  figure = new_figure(14 if d else 10, 4.2, title)
  left, middle, *rest = figure.subplots(1, 3 if d else 2)
  whisker = {"capsize": 3, "marker": "o", "linewidth": 1.5}
  for (name, by), colour in zip(w.scores.items(), PALETTE):
    found = [evaluation.accuracy(p) for p in by.values()]
    left.errorbar(list(by), *_bars(found), color=colour, label=name, **whisker)
  best = 100 * _best(w.scores["preference model"][max(SIZES)])
  left.axhline(best, color="#333333", linestyle=":", linewidth=1)
  left.annotate("best possible", (SIZES[0], best + 1), fontsize=9)
  left.set_xscale("log")
  left.set_xticks(SIZES, [f"{n:,}" for n in SIZES])
  left.minorticks_off()
  left.set(xlabel="training pairs", ylabel="accuracy, %", ylim=(None, best + 3))
  left.set_title("Held-out pairs of the world")
  left.legend(frameon=False, loc="lower right")
  place = np.arange(len(w.shifted))
  for i, (kind, colour) in enumerate(zip(("explicit", "implicit"), PALETTE)):
    found = [evaluation.accuracy(both[kind]) for both in w.shifted.values()]
    at, error = _bars(found)
    label = {"explicit": "reward model", "implicit": "DPO's reward"}[kind]
    middle.bar(
      place + 0.36 * i, at, 0.34, yerr=error, color=colour, label=label,
      capsize=3,
    )  # fmt: skip
  for x, both in zip(place, w.shifted.values()):
    top = 100 * _best(both["explicit"])
    middle.hlines(top, x - 0.2, x + 0.56, color="#333333", linestyle=":")
  middle.set_xticks(
    place + 0.18, [n.replace(" that", "\nthat") for n in w.shifted]
  )
  middle.set(ylim=(40, 95))
  middle.set_title("Under shifts (dotted: best possible)")
  middle.legend(frameon=False, loc="upper center", ncols=2)
  if d is not None:
    (right,) = rest
    bins = evaluation.by_length(d.pairs, bins=4)
    spots = np.arange(len(bins))
    at, error = _bars([b.accuracy for b in bins])
    right.errorbar(
      spots, at, error, color=PALETTE[0], label="accuracy", **whisker
    )
    longer = [100 * b.longer.mean for b in bins if b.longer is not None]
    right.plot(spots, longer, "s--", color=PALETTE[1], label="prefers longer")
    right.axhline(50, color="#333333", linestyle=":", linewidth=1)
    right.set_xticks(spots, [f"{b.low:.0f}–{b.high:.0f}" for b in bins])
    right.set(xlabel="gap of lengths, tokens", ylabel="%", ylim=(20, 100))
    right.set_title(f"hh-rlhf: {len(d.pairs)} held-out pairs")
    right.legend(frameon=False, loc="upper right")
  return figure


def _bars(found: list[Mean]) -> tuple[np.ndarray, np.ndarray]:
  """Per cent [N], and what the intervals add below and above [2, N]."""
  mean = 100 * np.array([x.mean for x in found])
  ends = 100 * np.array([x.interval for x in found]).T
  return mean, np.abs(ends - mean)


if __name__ == "__main__":
  options = policies.flags(__doc__)
  world = run_world(policies.world())
  start = policies.hh(options.hh)
  dialogues = None if start is None else run_dialogues(start)
  sys.exit(
    report(
      "reward_models_trained",
      "Reward models by training",
      [
        *world_claims(world),
        *([] if dialogues is None else dialogue_claims(dialogues)),
      ],
      lambda: draw(world, dialogues),
      options.out,
      table(world, dialogues),
    )
  )
