"""Preferences by regret and by partial return: what each shows and hides.

Knox et al. 2022, "Models of Human Preference for Learning Reward Functions",
arXiv:2206.02231. These are claims of `experiments.papers.regret`; the optima
are without entropy.
"""

import jax
import numpy as np

from experiments.papers.claims import Claim
from experiments.papers.gridworld import (
  LENGTH,
  SLIPS,
  Mdp,
  Segments,
  World,
  gridworld,
  lottery,
  optimum,
  segments,
  shaped,
  world,
)
from experiments.papers.segment_learners import draw_pairs
from jalign import losses

KNOX = "Knox et al. 2022, arXiv:2206.02231"
OURS = KNOX + ", derived"
BEST = 1e-9  # advantages above -1e-9 count as 0


def excess(w: World, segs: Segments) -> np.ndarray:
  """[N] V(first) - sum r - V(last) less the regret -sum A, of each segment."""
  v = w.hard.v
  rewards = segs.values(w.mdp.rewards)
  starts, ends = v[segs.states[:, 0]], v[segs.states[:, -1]]
  with jax.enable_x64(True):
    form = losses.deterministic_regret(rewards, starts, ends, segs.mask)
    return np.asarray(form) + segs.values(w.hard.a).sum(1)


def form_claims() -> list[Claim]:
  """Regret's deterministic form, and where it fails."""
  certain, slippery = (excess(w, w.ended) for w in map(world, SLIPS))
  w = world("slippery")
  best = w.ended.values(w.hard.a).sum(1) > -BEST
  luck = slippery[best]
  mean = w.ended.law @ slippery
  off = np.abs(certain).max()
  return [
    Claim(
      KNOX,
      "where nothing is random, regret -sum A* is V*(first) - sum r - V*(last)",
      f"within {off:.1g} on all {certain.size} segments",
      off < 1e-12,
    ),
    Claim(
      KNOX,
      "where steps are random that form has luck in it, too, so that regret is"
      " -sum A*, which is 0 for optimal steps",
      f"of optimal segments the form is {luck.min():.2f} to {luck.max():.2f};"
      f" what it has beside regret has mean {mean:.0e} (derived: 0)",
      luck.min() < -0.1 and luck.max() > 0.1 and abs(mean) < 1e-12,
    ),
  ]


def disagreement(w: World) -> tuple[float, float, float]:
  """How much the two models disagree on pairs of whole segments.

  Both segments of a pair are drawn from the segments' law.

  Returns:
    The share of pairs where only partial return is indifferent, the share where
    the two models prefer different segments, and the mean difference of their
    probabilities.
  """
  values = [w.whole.values(x).sum(1) for x in (w.mdp.rewards, w.hard.a)]
  kinds, of = np.unique(np.round(values, 9), axis=1, return_inverse=True)
  law = np.bincount(of.ravel(), w.whole.law)
  gaps = kinds[:, :, None] - kinds[:, None]
  returned, regretted = np.sign(gaps.round(8))
  p, q = 1 / (1 + np.exp(-gaps))
  share = lambda x: float(law @ x @ law)
  blind = share((returned == 0) & (regretted != 0))
  return blind, share(returned * regretted < 0), share(np.abs(p - q))


def equal_ends(w: World) -> tuple[int, float]:
  """Number of drawn pairs of equal V(last) - V(first), and the models' gap."""
  pairs = draw_pairs(w.whole, 4000, np.random.default_rng(0))
  v = w.hard.v[pairs.states]
  change = v[..., -1] - v[..., 0]
  same = np.abs(change[:, 0] - change[:, 1]) < 1e-9
  p = pairs.preferred(losses.regret_preference, w.hard.a)
  q = pairs.preferred(losses.partial_return_preference, w.mdp.rewards)
  return int(same.sum()), float(np.abs(p - q)[same].max())


def model_claims() -> list[Claim]:
  """How often the two models disagree."""
  shares = {name: disagreement(world(name)) for name in SLIPS}
  blind, opposite, apart = zip(*shares.values())
  (n, gap), (m, luck) = (equal_ends(world(name)) for name in SLIPS)
  percent = lambda xs: ", ".join(f"{x:.1%}" for x in xs)
  return [
    Claim(
      KNOX,
      "partial return doesn't see what a segment's first and last states are"
      " worth; regret does",
      f"certain, slippery: of all pairs of {LENGTH} steps it can't tell"
      f" {percent(blind)} that regret tells, and prefers the other of"
      f" {percent(opposite)}; P differs by {apart[0]:.2f}, {apart[1]:.2f} on"
      " average",
      min(blind) > 0.1 and min(opposite) > 0.01,
    ),
    Claim(
      KNOX,
      "where V*(first) - V*(last) are equal the two models are the same, if"
      " nothing is random",
      f"{n} such pairs: P within {gap:.1g}; slippery, {m}: up to {luck:.2f}"
      " apart",
      n > 100 and gap < 1e-12 and luck > 0.1,
    ),
  ]


def seen(
  first: tuple[Mdp, float], second: tuple[Mdp, float], segs: Segments
) -> tuple[float, float, int]:
  """Whether preferences and optima tell two worlds apart.

  Args:
    first: a world, and its discount.
    second: a world of the same dynamics, and its discount.
    segs: segments that pairs are drawn from.

  Returns:
    The largest change of a preference by partial return, and of one by regret,
    and the number of states whose optimal actions change.
  """
  pairs = draw_pairs(segs, 4000, np.random.default_rng(0))
  judgements = []
  for mdp, discount in (first, second):
    a = optimum(mdp, discount=discount).a
    judgements.append(
      (
        pairs.preferred(losses.partial_return_preference, mdp.rewards),
        pairs.preferred(losses.regret_preference, a),
        (a > -BEST) & ~mdp.ends[:, None],
      )
    )
  (p, g, best), (p2, g2, best2) = judgements
  changed = int((best != best2).any(1).sum())
  return float(np.abs(p - p2).max()), float(np.abs(g - g2).max()), changed


def lottery_orders() -> list[tuple[np.ndarray, np.ndarray, bool]]:
  """For two lotteries, (orders by partial return and by regret, gambles?).

  An order is the signs of all comparisons of segments, and the last part says
  whether it is optimal to gamble.
  """
  signs = []
  for win, loss in ((1.0, 2.0), (2.0, 1.0)):
    mdp = lottery(win, loss)
    segs, best = segments(mdp, 1), optimum(mdp)
    order = lambda x: np.sign(np.subtract.outer(x, x))
    values = (segs.values(x).sum(1) for x in (mdp.rewards, best.a))
    signs.append((*map(order, values), bool(best.a[0, 1] == 0)))
  return signs


def unbeaten(w: World, table: np.ndarray) -> np.ndarray:
  """[S, A] bool: steps of those segments to which no other is preferred."""
  values = w.ended.values(table).sum(1)
  top = (values > values.max() - BEST)[:, None] & w.ended.mask
  steps = np.zeros(w.hard.a.shape, bool)
  steps[w.ended.states[:, :-1][top], w.ended.actions[top]] = True
  return steps


def identity_claims() -> list[Claim]:
  """What each model tells about the optimum, by construction."""
  shift, short, moved, sides = [], [], [], []
  for name, slip in SLIPS.items():
    w, cheap = world(name), gridworld(slip, step=-0.2)
    phi = np.random.default_rng(1).normal(size=w.hard.v.size)
    shift.append(seen((w.mdp, 1.0), (cheap, 1.0), w.whole))
    steps = segments(w.mdp, 1)
    short.append(seen((w.mdp, 1.0), (w.mdp, 0.5), steps))
    moved.append(seen((w.mdp, 1.0), (shaped(w.mdp, phi), 1.0), w.whole))
    best = (w.hard.a > -BEST) & ~w.mdp.ends[:, None]
    regretted, returned = (unbeaten(w, x) for x in (w.hard.a, w.mdp.rewards))
    sides.append(((regretted == best).all(), best.sum(), returned.any(1).sum()))
  (r, g, dares), (r2, g2, dares2) = lottery_orders()
  three = lambda rows: "; ".join(
    f"{p:.0e}, {q:.2f}, {n} states" for p, q, n in rows
  )
  hidden = lambda rows: all(p < 1e-12 and q > 0.1 and n for p, q, n in rows)
  yes = lambda x: "yes" if np.all(x) else "no"
  live = (~world("certain").mdp.ends).sum()
  return [
    Claim(
      KNOX,
      "comparisons by regret, even noiseless, give the optimal"
      " policies: steps of segments that nothing beats are the optimal ones",
      f"all {sides[0][1]} and {sides[1][1]} optimal steps, no other; by partial"
      f" return they visit {sides[0][2]} and {sides[1][2]} of {live}"
      " states",
      all(exact and few < live for exact, _, few in sides),
    ),
    Claim(
      KNOX,
      "where episodes differ in length a constant added to each"
      " step's reward changes the optimum, but no partial-return preference"
      " between segments of one length; regret's change",
      "0.8 added: largest changes of P by partial return and regret, and of"
      f" optima: {three(shift)}",
      hidden(shift),
    ),
    Claim(
      KNOX,
      "partial returns of single steps don't depend on the"
      " discount, optima and regrets do",
      f"0.5 for 1, the same three: {three(short)}",
      hidden(short),
    ),
    Claim(
      KNOX,
      "where steps are random, noiseless partial returns don't say"
      " which of two gambles for +1 or -2, and +2 or -1, is better than 0;"
      " regret's do",
      "the two worlds order all segments alike, by partial return"
      f" {yes(r == r2)}, by regret {yes(g == g2)}; it is optimal to gamble in"
      f" the first {yes(dares)}, in the second {yes(dares2)}",
      (r == r2).all() and (g != g2).any() and dares != dares2,
    ),
    Claim(
      OURS,
      "shaping by a potential changes partial-return preferences, but no"
      " preference by regret and no optimum",
      "a random potential, the same three: "
      + "; ".join(f"{p:.2f}, {q:.0e}, {n} states" for p, q, n in moved),
      all(q < 1e-12 and p > 0.1 and not n for p, q, n in moved),
    ),
  ]


def claims() -> list[Claim]:
  """The claims of Knox et al."""
  return form_claims() + model_claims() + identity_claims()
