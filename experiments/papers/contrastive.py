"""Contrastive preference learning where everything is known.

Hejna et al. 2023, "Contrastive Preference Learning: Learning from Human
Feedback without RL", arXiv:2310.13639. The claims are rows of
`experiments.papers.regret`; optimal policies are of maximum entropy.
"""

import functools

import numpy as np

from experiments.papers.claims import Claim
from experiments.papers.gridworld import (
  ALPHA,
  SLIPS,
  World,
  optimum,
  world,
)
from experiments.papers.segment_learners import (
  Pairs,
  cloned_policy,
  cpl_loss,
  cpl_policy,
  draw_pairs,
  softmax,
)
from jalign import losses

CPL = "Hejna et al. 2023, arXiv:2310.13639"
COUNTS = (100, 1000, 10_000, 100_000, 1_000_000)
SEEDS = 3


def labelled(w: World, label: str, ends: bool = False) -> Pairs:
  """A thousand pairs with exact labels, of whole segments unless `ends`."""
  segs = w.ended if ends else w.whole
  pairs = draw_pairs(segs, 1000, np.random.default_rng(0))
  if label == "partial return":
    return pairs.labelled(losses.partial_return_preference, w.mdp.rewards)
  a = w.soft.a if label == "regret" else w.hard.a
  return pairs.labelled(losses.regret_preference, a)


def zeros(w: World) -> np.ndarray:
  """Logits 0 to start from."""
  return np.zeros(w.policy.shape)


def theory_claims() -> list[Claim]:
  """Claims on A* = alpha log pi, and on the minimum of the loss."""
  sums, back, slopes, wrong, errors = [], [], [], [], []
  rng = np.random.default_rng(0)
  for w in map(world, SLIPS):
    live = ~w.mdp.ends
    sums.append(np.abs(w.policy[live].sum(1) - 1).max())
    policy = softmax(rng.normal(size=w.policy.shape))
    table = np.where(live[:, None], ALPHA * np.log(policy), 0.0)
    rewards = np.repeat(table[..., None], len(live), -1)
    again = optimum(w.mdp._replace(rewards=rewards), ALPHA)
    back.append(np.abs(again.a - table)[live].max())
    pairs, logits = labelled(w, "regret"), w.soft.a / ALPHA
    slopes.append(np.abs(cpl_loss(logits, pairs)[1]).max())
    near = np.log(softmax(logits + 0.1 * rng.normal(size=logits.shape)))
    wrong.append(np.abs(cpl_loss(near, pairs)[1]).max())
    for start in (zeros(w), rng.normal(size=logits.shape)):
      errors.append(w.divergence(cpl_policy(start, pairs)))
  return [
    Claim(
      CPL,
      "maximum-entropy optima have A* = alpha log pi*, and alpha log of any"
      " policy is the A* of some reward: of itself (derived)",
      f"sum exp(A* / alpha) = 1 within {max(sums):.0e}; solving for a random"
      f" policy's gives it back within {max(back):.0e}",
      max(*sums, *back) < 1e-12,
    ),
    Claim(
      CPL,
      "with labels by regret and no bias, the loss's minimum is the"
      " optimal policy, whether steps are random or not",
      f"gradient there {max(slopes):.0e}, near it {min(wrong):.0e};"
      f" KL(optimal, found) at most {max(errors):.0e} from two starts",
      max(slopes) < 1e-15 < 1e-4 < min(wrong) and max(errors) < 1e-9,
    ),
  ]


@functools.cache
def curves() -> dict[str, np.ndarray]:
  """[COUNTS, SEEDS] KL(optimal, CPL's policy), by the number of answers."""
  divergences = {}
  for name in SLIPS:
    w = world(name)
    pairs = labelled(w, "regret")
    divergences[name] = np.array(
      [
        [
          w.divergence(cpl_policy(zeros(w), answers, ridge=0.01 / count))
          for seed in range(SEEDS)
          for answers in [pairs.answered(count, np.random.default_rng(seed))]
        ]
        for count in COUNTS
      ]
    )
  return divergences


@functools.cache
def limits() -> dict[str, dict[str, float]]:
  """KL(optimal, policy) with infinitely many answers, if it isn't 0."""
  divergences = {}
  for name in SLIPS:
    w = world(name)
    pairs = labelled(w, "regret")
    divergences[name] = {
      "CPL, bias 0.5": w.divergence(cpl_policy(zeros(w), pairs, 0.5)),
      "SFT": w.divergence(cloned_policy(w.mdp, pairs)),
    }
  return divergences


def consistency_claims() -> list[Claim]:
  """Claims on many answers, and on infinitely many."""
  medians = [np.median(curve, 1) for curve in curves().values()]
  slopes = [
    np.polyfit(np.log(COUNTS[1:]), np.log(m[1:]), 1)[0] for m in medians
  ]
  floors = {k: [x[k] for x in limits().values()] for k in limits()["certain"]}
  return [
    Claim(
      CPL,
      "consistent: the policy converges to the optimal one as answers grow"
      " (derived: KL falls as 1 / answers)",
      f"certain, slippery: KL {medians[0][1]:.3f}, {medians[1][1]:.3f} at 1,000"
      f" and {medians[0][-1]:.0e}, {medians[1][-1]:.0e} at 1,000,000; slopes"
      f" {slopes[0]:.2f}, {slopes[1]:.2f}",
      all(abs(slope + 1) < 0.15 for slope in slopes),
    ),
    Claim(
      CPL,
      "a bias of 0.5, and SFT on the winners, have other limits (derived)",
      "; ".join(f"{k}: KL {a:.3f}, {b:.3f}" for k, (a, b) in floors.items()),
      min(min(x) for x in floors.values()) > 0.05,
    ),
  ]


def careful_pairs(w: World, seed: int) -> tuple[Pairs, np.ndarray]:
  """(labelled pairs without any state's worst action, [S, A] which that is)."""
  worst = np.eye(w.policy.shape[1], dtype=bool)[w.soft.a.argmin(-1)]
  taken = worst[w.whole.states[:, :-1], w.whole.actions]
  rng = np.random.default_rng(seed)
  pairs = draw_pairs(w.whole.take(~taken.any(1)), 1000, rng)
  return pairs.labelled(losses.regret_preference, w.soft.a), worst


def drained(w: World, worst: np.ndarray, shift: float) -> np.ndarray:
  """[S, A] policy: the optimal one times exp(-shift), the rest on the worst."""
  policy = np.where(worst, 0.0, w.policy * np.exp(-shift))
  return policy + worst * (1 - policy.sum(-1, keepdims=True))


@functools.cache
def offline(name: str, bias: float) -> tuple[float, float]:
  """(probability of unseen actions, gain): means over 8 seeds, 300 answers."""
  w = world(name)
  outcomes = []
  for seed in range(8):
    pairs, worst = careful_pairs(w, seed)
    answers = pairs.answered(300, np.random.default_rng(seed))
    policy = cpl_policy(zeros(w), answers, bias, ridge=0.01 / 300)
    outcomes.append((unseen(w, worst, policy), w.gain(policy)))
  out, gain = np.mean(outcomes, 0)
  return float(out), float(gain)


def unseen(w: World, worst: np.ndarray, policy: np.ndarray) -> float:
  """Mean probability of the actions that the data lack, over states."""
  return float((policy * worst).sum(1)[~w.mdp.ends].mean())


def bias_claims() -> list[Claim]:
  """Claims on actions that the data lack, and on what the bias does to them."""
  flat, rise, out = [], [], []
  for w in map(world, SLIPS):
    pairs, worst = careful_pairs(w, 0)
    family = [drained(w, worst, shift) for shift in (0.0, 0.5, 1.0, 2.0)]
    heights = lambda bias, pairs=pairs, family=family: [
      cpl_loss(np.log(p), pairs, bias)[0] for p in family
    ]
    flat.append(np.ptp(heights(1.0)))
    rise.append(np.diff(heights(0.5)).min())
    out.append([unseen(w, worst, p) for p in family])
  rows = {bias: [offline(name, bias) for name in SLIPS] for bias in (1.0, 0.5)}
  show = lambda bias: " and ".join(f"{o:.3f}, {g:.2f}" for o, g in rows[bias])
  return [
    Claim(
      CPL,
      "the loss isn't strictly convex: policies that give more and more to"
      " actions that the data lack may have the same loss (ours: each state's"
      " worst, whole segments)",
      f"certain: {out[0][0]:.2f} to {out[0][-1]:.2f} on it, slippery:"
      f" {out[1][0]:.2f} to {out[1][-1]:.2f}; losses within {max(flat):.1g}",
      max(flat) < 1e-12,
    ),
    Claim(
      CPL,
      "with bias below 1 the loss is lower the more likely the data are"
      " (here 0.5)",
      f"of four such policies it rises by {min(rise):.2f} at least to the next",
      min(rise) > 0,
    ),
    Claim(
      CPL,
      "so that with few answers unseen actions get less of the policy",
      "300 answers, 8 seeds: probability of them, and return with entropy:"
      f" bias 0.5: {show(0.5)}; bias 1: {show(1.0)}",
      all(
        a[0] < 0.1 < b[0] and a[1] > b[1] for a, b in zip(rows[0.5], rows[1.0])
      ),
    ),
  ]


def claims() -> list[Claim]:
  """All claims of Hejna et al."""
  return theory_claims() + consistency_claims() + bias_claims()
