"""Do trained policies rank pairs as they are labelled? What does DPO change?

python -m experiments.papers.rankings_trained --out=experiments/results

Chen et al. 2024, "Preference Learning Algorithms Do Not Learn Preference
Rankings", arXiv:2405.19534, on two SFT policies (`policies`): one of the TL;DR
world, where the preferences behind the labels are known, and one of Anthropic's
dialogues. `rankings` checks the laws by themselves.
"""

import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.papers import policies
from experiments.papers.alignment import align
from experiments.papers.claims import Claim, report
from jalign import diagnostics, losses
from jalign.evaluation import likelihood
from jalign.evaluation.likelihood import PairScores
from jalign.pages.style import PALETTE, new_figure

CHEN = "Chen et al. 2024, arXiv:2405.19534"
GRID = (0.01, 0.1, 1.0, 5.0, 10.0)  # betas of the idealised accuracy
CERTAIN = 1 - 1e-3  # the paper's agreement for a label without ties
PARTS = {"train": "training pairs", "eval": "held-out pairs"}
NAMES = {"world": "TL;DR world", "hh": "hh-rlhf"}
# For each policy: DPO's betas, epochs, pairs in a batch, learning rate.
SETTINGS = {
  "world": ((0.01, 0.1, 1.0), 2, 64, 3e-4),
  "hh": ((0.1,), 1, 32, 2e-4),
}
SHOWN = 0.1  # beta of the scatter


class Study(NamedTuple):
  """One SFT policy, and the policies that DPO makes of it.

  Attributes:
    name: "world" or "hh".
    groups: part -> cluster of each pair.
    ref: part -> scores under the SFT policy, which is the reference.
    tuned: beta -> part -> scores after DPO.
    agreement: part -> [P] exact P(chosen is preferred); None if unknown.
    steps: number of DPO's updates.
  """

  name: str
  groups: dict[str, list[str]]
  ref: dict[str, PairScores]
  tuned: dict[float, dict[str, PairScores]]
  agreement: dict[str, np.ndarray] | None
  steps: int


def study(start: policies.Trained) -> Study:
  """Trains by DPO with each beta and scores every pair."""
  betas, epochs, batch_size, rate = SETTINGS[start.name]
  score = lambda params: {part: start.score(params, part) for part in PARTS}
  ref = score(start.params)
  steps = epochs * len(start.pairs.train) // batch_size
  tuned = {}
  for beta in betas:
    course = align(
      start,
      ref["train"],
      "dpo",
      {"beta": beta},
      steps=steps,
      learning_rate=rate,
      batch_size=batch_size,
    )
    tuned[beta] = score(course.params)
    print(f"[{start.name}] DPO, beta {beta:g}: {steps} steps")
  rows = {part: start.pairs.rows("pairs", part) for part in PARTS}
  known = start.name == "world"
  return Study(
    start.name,
    {part: start.pairs.groups(ref[part].sources) for part in PARTS},
    ref,
    tuned,
    {part: np.array([row.preference for row in rows[part]]) for part in PARTS}
    if known
    else None,
    steps,
  )


def four(scores: PairScores, ref: PairScores) -> tuple[jax.Array, ...]:
  """Log-probs in the order that losses take; call it with float64 enabled."""
  logps = (scores.chosen, scores.rejected, ref.chosen, ref.rejected)
  return tuple(map(jnp.asarray, logps))


def dpo_losses(s: Study, beta: float, part: str) -> np.ndarray:
  """[P] losses of DPO after training, nats."""
  with jax.enable_x64(True):
    pairs = four(s.tuned[beta][part], s.ref[part])
    return np.asarray(losses.dpo(*pairs, beta=beta))


def exceptions(s: Study) -> tuple[int, int, int]:
  """(pairs that break theorem 4.1, pairs checked, ties among them)."""
  broken = count = ties = 0
  for beta, parts in s.tuned.items():
    for part, scores in parts.items():
      with jax.enable_x64(True):
        pairs = four(scores, s.ref[part])
        loss = losses.dpo(*pairs, beta=beta)
        limit = diagnostics.dpo_threshold(*pairs[2:], beta)
      gap = scores.chosen - scores.rejected
      tie = np.abs(gap) < 1e-9  # gaps that rounding could turn round
      broken += int(np.sum((np.asarray(loss <= limit) != (gap >= 0)) & ~tie))
      count, ties = count + len(gap), ties + int(tie.sum())
  return broken, count, ties


def idealised(s: Study, part: str, agreement) -> dict[float, float]:
  """beta -> per cent of pairs that DPO's optimum ranks as labelled."""
  with jax.enable_x64(True):
    refs = jnp.asarray(s.ref[part].chosen), jnp.asarray(s.ref[part].rejected)
    a = jnp.broadcast_to(jnp.asarray(agreement), refs[0].shape)
    return {
      beta: 100 * float(diagnostics.idealised_ranking(*refs, a, beta).mean())
      for beta in GRID
    }


def range_of(accuracies: dict[float, float]) -> str:
  """Smallest, median and largest accuracy over the grid of betas."""
  low, middle, high = np.quantile(list(accuracies.values()), [0, 0.5, 1])
  return f"{low:.1f} / {middle:.1f} / {high:.1f} %"


def right(scores: PairScores) -> np.ndarray:
  """[P] bool: whether the chosen response is at least as likely."""
  return scores.chosen >= scores.rejected


def accuracy(scores: PairScores) -> float:
  """Ranking accuracy in per cent."""
  return 100 * likelihood.ranking_accuracy(scores).win_rate


def flips(s: Study, beta: float, part: str) -> tuple[float, float]:
  """Per cent of all pairs whose ranking DPO puts right, and puts wrong."""
  before, after = right(s.ref[part]), right(s.tuned[beta][part])
  return 100 * np.mean(~before & after), 100 * np.mean(before & ~after)


def flipped_by_difficulty(
  s: Study, beta: float, part: str, bins: int
) -> tuple[np.ndarray, np.ndarray]:
  """How many pairs that the reference ranks wrongly are put right.

  The pairs are sorted by difficulty into bins of equal size.

  Returns:
    ([bins] median log-odds against the pair, nats; [bins] per cent put right).
  """
  c = s.ref[part].rejected - s.ref[part].chosen
  at = np.flatnonzero(c > 0)
  order = at[np.argsort(c[at])]
  after = right(s.tuned[beta][part])
  parts = np.array_split(order, bins)
  return (
    np.array([np.median(c[i]) for i in parts]),
    np.array([100 * np.mean(after[i]) for i in parts]),
  )


def claims_of(s: Study) -> list[Claim]:
  """The paper's claims about one policy."""
  name, betas = NAMES[s.name], list(s.tuned)
  broken, count, ties = exceptions(s)
  held = likelihood.ranking_accuracy(s.ref["eval"], s.groups["eval"])
  half = 100 * (held.interval[1] - held.win_rate)
  ideal = {part: idealised(s, part, CERTAIN) for part in PARTS}
  after = {b: accuracy(s.tuned[b]["train"]) for b in betas}
  margin = lambda b: likelihood.reward_accuracy(
    s.tuned[b]["train"], s.ref["train"]
  )
  rewards = {b: 100 * margin(b).win_rate for b in betas}
  means = {b: dpo_losses(s, b, "train").mean() for b in betas}
  before = accuracy(s.ref["train"])
  put = {b: flips(s, b, "train") for b in betas}
  curves = {b: flipped_by_difficulty(s, b, "train", 4)[1] for b in betas}
  middle = float(np.median(list(ideal["train"].values())))
  by = lambda values: "; ".join(f"beta {b:g}: {v}" for b, v in values.items())
  finding = lambda claim, ours, holds: Claim(CHEN, claim, ours, holds, True)
  return [
    Claim(
      CHEN,
      f"{name}: a pair is ranked rightly if and only if its DPO loss is at most"
      " -log sigmoid(beta c) (thm 4.1)",
      f"{broken} exceptions in {count:,} (pairs scored after training, beta"
      f" {', '.join(f'{b:g}' for b in betas)}); {ties} ties",
      not broken,
    ),
    finding(
      f"{name}: references rank fewer than 60 % of the pairs as labelled",
      f"{before:.1f} % of {len(s.ref['train'].chosen):,} training pairs,"
      f" {100 * held.win_rate:.1f} ± {half:.1f} % held out",
      before < 60,
    ),
    finding(
      f"{name}: DPO stays far below the idealised accuracy",
      f"training pairs, {s.steps} steps: "
      + by({b: f"{x:.1f} %" for b, x in after.items()})
      + f"; idealised, agreement 0.999, min / median / max over beta"
      f" {GRID[0]:g} to {GRID[-1]:g}: {range_of(ideal['train'])}",
      max(after.values()) < middle - 5,
    ),
    finding(
      f"{name}: DPO lowers its loss and raises the margins of most pairs, and"
      " flips the ranking of few",
      by(
        {
          b: f"loss 0.693 to {means[b]:.3f}, margins raised {rewards[b]:.1f} %,"
          f" put right {put[b][0]:.1f} %, put wrong {put[b][1]:.1f} %"
          for b in betas
        }
      ),
      all(put[b][0] < (100 - before) / 2 for b in betas),
    ),
    finding(
      f"{name}: the further the reference is off, the fewer are put right",
      "quarters by c, easy to hard, of those it ranks wrongly: "
      + by(
        {b: ", ".join(f"{x:.0f}" for x in v) + " %" for b, v in curves.items()}
      ),  # fmt: skip
      all(v[0] > v[-1] for v in curves.values()),
    ),
  ]


def table(studies: list[Study]) -> str:
  """A table of accuracies, in Markdown."""
  header = (
    "policy",
    "pairs",
    "ranking accuracy",
    "per token",
    "reward accuracy",
    "idealised, agreement 0.999",
    "idealised, exact agreement",
  )
  rows = [header, ("---",) * len(header)]
  rate = lambda result: (
    f"{100 * result.win_rate:.1f} ± "
    + (f"{100 * (result.interval[1] - result.win_rate):.1f} %")
  )
  for s in studies:
    policies_ = {"SFT": s.ref} | {
      f"DPO, beta {b:g}": parts for b, parts in s.tuned.items()
    }
    for label, parts in policies_.items():
      for part, what in PARTS.items():
        scores, groups = parts[part], s.groups[part]
        first = label == "SFT"
        rows.append(
          (
            f"{NAMES[s.name]}, {label}",
            what,
            rate(likelihood.ranking_accuracy(scores, groups)),
            rate(likelihood.ranking_accuracy_per_token(scores, groups)),
            ""
            if first
            else rate(likelihood.reward_accuracy(scores, s.ref[part], groups)),
            range_of(idealised(s, part, CERTAIN)) if first else "",
            range_of(idealised(s, part, s.agreement[part]))
            if first and s.agreement
            else "",
          )
        )
  lines = ["| " + " | ".join(row) + " |" for row in rows]
  note = (
    "One seed; 95 % intervals, clustered by prompt. Idealised: min / median /"
    " max over beta 0.01, 0.1, 1, 5, 10. Rows marked measured describe these"
    " policies, and no law."
  )
  return "\n".join([note, "", *lines])


def draw(studies: list[Study]) -> Figure:
  """Plots losses over c with the limit, and the share put right over c."""
  title = "DPO's loss falls, and rankings flip where they nearly did"
  figure = new_figure(11, 4 * len(studies), title)
  grid = figure.subplots(len(studies), 2, squeeze=False)
  for (plane, curve), s in zip(grid, studies):
    scores, ref = s.tuned[SHOWN]["train"], s.ref["train"]
    some = np.random.default_rng(0).permutation(len(ref.chosen))[:1500]
    c = (ref.rejected - ref.chosen)[some]
    loss = dpo_losses(s, SHOWN, "train")[some]
    ranked = right(scores)[some]
    edge = np.quantile(np.abs(c), 0.995)
    x = np.linspace(-edge, edge, 300)
    plane.plot(x, np.logaddexp(0, -SHOWN * x), color="#333333", label="limit")
    for mask, colour, label in (
      (ranked, PALETTE[0], "ranked as labelled"),
      (~ranked, PALETTE[1], "not"),
    ):
      style = {"s": 9, "alpha": 0.6, "linewidths": 0, "label": label}
      plane.scatter(c[mask], loss[mask], color=colour, **style)
    low, high = np.quantile(loss, [0, 0.997])
    plane.set(xlim=(-edge, edge), ylim=(min(low, 0.4), 1.1 * high))
    plane.set(ylabel="DPO loss, nats")
    plane.set_title(f"{NAMES[s.name]}: training pairs after DPO, beta {SHOWN}")
    plane.legend(frameon=False, loc="upper right", markerscale=2)
    for beta, colour in zip(s.tuned, PALETTE):
      for part, dashes, bins in (("train", "-", 8), ("eval", ":", 4)):
        label = f"beta {beta:g}" if part == "train" else None
        style = {"color": colour, "linestyle": dashes, "marker": "o"}
        at = flipped_by_difficulty(s, beta, part, bins)
        curve.plot(*at, label=label, **style)
    curve.set(ylabel="put right, %", ylim=(-3, 103))
    curve.set_title("Pairs that the reference ranks wrongly (dotted: held out)")
    curve.legend(frameon=False, loc="upper right")
  for axes in grid[-1]:
    axes.set_xlabel("c: the reference's log-odds against the pair, nats")
  return figure


if __name__ == "__main__":
  options = policies.flags(__doc__)
  starts = [policies.world(), policies.hh(options.hh)]
  studies = [study(start) for start in starts if start is not None]
  rows = [claim for s in studies for claim in claims_of(s)]
  sys.exit(
    report(
      "rankings_trained",
      "Rankings by trained policies",
      rows,
      lambda: draw(studies),
      options.out,
      table(studies),
    )
  )
