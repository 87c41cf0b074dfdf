"""When preference learning ranks a pair as its label does: exact laws.

python -m experiments.papers.rankings --out=runs/papers

Chen et al. 2024, "Preference Learning Algorithms Do Not Learn Preference
Rankings", arXiv:2405.19534. The laws are checked on random pairs, and on games
of six responses whose optimum of DPO is found by Newton's method, in float64.
`rankings_trained` is about trained policies. Cost: 5 s on a CPU core.
"""

import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.papers.claims import Claim, out_folder, report
from experiments.papers.idealised import GAMES, Solved, solved
from jalign import diagnostics, losses
from jalign.pages.style import PALETTE, new_figure

CHEN = "Chen et al. 2024, arXiv:2405.19534"
BETAS = (0.01, 0.1, 1.0, 5.0, 10.0)  # the paper's grid
PAIRS = 100_000


class Pairs(NamedTuple):
  """[P] log-probs of the responses of pairs, in nats."""

  chosen: jax.Array
  rejected: jax.Array
  ref_chosen: jax.Array
  ref_rejected: jax.Array


def random_pairs(seed: int = 0) -> Pairs:
  """References' log-probs from -90 to -50, and policies some way from them."""
  rng = np.random.default_rng(seed)
  refs = rng.uniform(-90, -50, (2, PAIRS))
  moved = refs + rng.normal(size=(2, PAIRS)) * rng.uniform(0, 12, PAIRS)
  return Pairs(*map(jnp.asarray, (*moved, *refs)))


def flip_claims(sign: int = 1) -> list[Claim]:
  """Theorem 4.1, its limits, and the form with a share of the reference.

  Args:
    sign: -1 takes the reference's log-odds with the wrong sign, for tests.
  """
  with jax.enable_x64(True):
    pairs = random_pairs()
    right = pairs.chosen >= pairs.rejected
    c = sign * (pairs.ref_rejected - pairs.ref_chosen)
    wrong, easy, hard = {}, 0, 0.0
    for beta in BETAS:
      loss = losses.dpo(*pairs, beta=beta)
      limit = diagnostics.dpo_threshold(-c, jnp.zeros_like(c), beta)
      wrong[beta] = int(jnp.sum(right != (loss <= limit)))
      easy += int(jnp.sum((c <= 0) & (loss <= jnp.log(2.0)) & ~right))
      far = beta * c > 10
      off = jnp.where(far, jnp.abs(limit * jnp.exp(beta * c) - 1), 0.0)
      hard = max(hard, float(off.max()))
    gammas, missed = (0.0, 0.5, 1.0), []
    for gamma in gammas:
      shares = gamma * pairs.ref_chosen, gamma * pairs.ref_rejected
      loss = losses.dpo(pairs.chosen, pairs.rejected, *shares, beta=0.1)
      limit = diagnostics.dpo_threshold(*shares, 0.1)
      missed.append(int(jnp.sum(right != (loss <= limit))))
  return [
    Claim(
      CHEN,
      "a pair is ranked rightly if and only if its DPO loss is at most"
      " -log sigmoid(beta c), c the reference's log-odds against it (thm 4.1)",
      f"{sum(wrong.values())} exceptions in {PAIRS:,} random pairs at each of"
      f" beta {', '.join(f'{b:g}' for b in BETAS)}",
      not any(wrong.values()),
    ),
    Claim(
      CHEN,
      "where the reference ranks rightly (c <= 0) a loss of ln 2, that of the"
      " reference itself, is enough",
      f"{easy} exceptions",
      not easy,
    ),
    Claim(
      CHEN,
      "where it is far wrong the loss must fall to exp(-beta c)",
      f"relative error at most {hard:.1e} where beta c > 10",
      hard < 1e-4,
    ),
    Claim(
      CHEN,
      "with a share gamma of the reference the law holds with gamma c; at"
      " gamma 0 (CPO's margin) the limit is ln 2 for every pair",
      ", ".join(f"gamma {g:g}: {n}" for g, n in zip(gammas, missed))
      + " exceptions",
      not any(missed),
    ),
  ]


def ipo_claims(sign: int = 1) -> list[Claim]:
  """Proposition A.7, on IPO, whose target is fixed.

  Args:
    sign: -1 swaps the reference's log-probs, for tests.
  """
  taus = (0.02, 0.1, 1.0)
  with jax.enable_x64(True):
    pairs = random_pairs(1)
    right = pairs.chosen >= pairs.rejected
    refs = (pairs.ref_chosen, pairs.ref_rejected)[::sign]
    below, missed, above, hopeless, optimal = 0, 0, 0, 0, 0
    for tau in taus:
      loss = losses.ipo(*pairs, tau=tau)
      limit = diagnostics.ipo_threshold(*refs, tau)
      under = loss <= limit
      below += int(under.sum())
      missed += int(jnp.sum(under & ~right))
      above += int(jnp.sum(~under & right))
      # At a loss of 0 the policy's log-odds are the reference's + 1 / (2 tau).
      never = limit < 0
      odds = pairs.ref_chosen - pairs.ref_rejected + 1 / (2 * tau)
      hopeless += int(never.sum())
      optimal += int(jnp.sum(never & (odds >= 0)))
  return [
    Claim(
      CHEN,
      "IPO: a loss of at most (1 / (2 tau) - c)^2 ranks a pair rightly"
      " (prop. A.7)",
      f"{missed} exceptions in {below:,} pairs below it, tau"
      f" {', '.join(f'{t:g}' for t in taus)}",
      not missed and below > 1000,
    ),
    Claim(
      CHEN,
      "IPO: where c > 1 / (2 tau) a loss of 0 ranks it wrongly",
      f"{optimal} exceptions in {hopeless:,} pairs",
      not optimal and hopeless > 1000,
    ),
    Claim(
      "ours",
      "the condition is not necessary: past its target IPO's loss rises again"
      " while the pair stays ranked rightly",
      f"{above:,} pairs above the limit are ranked rightly",
      above > 0,
    ),
  ]


def proposition_claims() -> list[Claim]:
  """Proposition 2.6, a case that it leaves open, and ties."""
  with jax.enable_x64(True):
    pairs, beta = random_pairs(2), 0.1
    right = pairs.chosen >= pairs.rejected
    loss = losses.dpo(*pairs, beta=beta)
    good = pairs.ref_chosen >= pairs.ref_rejected
    low = loss <= 0.6
    missed = int(jnp.sum(good & low & ~right))
    count = int(jnp.sum(good & low))
    other = float(jnp.mean(right[~good & low]))
    # Ties: if both responses are equally likely, the loss equals the limit.
    tied = pairs._replace(rejected=pairs.chosen)
    gap = losses.dpo(*tied, beta=beta) - diagnostics.dpo_threshold(
      tied.ref_chosen, tied.ref_rejected, beta
    )
    gap = float(jnp.abs(gap).max())
    near = jnp.abs(pairs.chosen - pairs.rejected) <= 0.01
    counted = float(jnp.mean(right | near)) - float(jnp.mean(right))
  return [
    Claim(
      CHEN,
      "a pair that the reference ranks rightly and whose loss is at most 0.6 is"
      " ranked rightly (prop. 2.6)",
      f"{missed} exceptions in {count:,} pairs",
      not missed and count > 1000,
    ),
    Claim(
      "ours",
      "one that the reference ranks wrongly may have such a loss and stay so",
      f"{100 * other:.1f} % of them are ranked rightly, beta {beta:g}",
      other < 1,
    ),
    Claim(
      CHEN,
      "ties: at equal log-probs the loss is the limit; counting gaps of up to"
      " 0.01 nats as ranked rightly (app. C.1) changes little",
      f"loss and limit differ by {gap:.0e} at most; {100 * counted:.2f} % more"
      " of the random pairs count",
      gap < 1e-12 and counted < 0.01,
    ),
  ]


def ideal(solution: Solved, beta: float) -> np.ndarray:
  """[P] bool: whether corollary 3.3 says that a pair is ranked rightly."""
  with jax.enable_x64(True):
    zeros = jnp.zeros(len(solution.odds))
    agreement = jnp.asarray(solution.agreement)
    got = diagnostics.idealised_ranking(
      jnp.asarray(solution.ref_odds), zeros, agreement, beta
    )
  return np.asarray(got)


def optimum_claims(sign: int = 1) -> list[Claim]:
  """Corollary 3.3 against the optimum that Newton's method finds.

  Args:
    sign: -1 is a wrong sign of the agreement and the rankings, for tests.
  """
  solutions = {beta: solved(beta) for beta in BETAS}
  wrong = right = flips = 0
  worst = at = residual = 0.0
  for beta, x in solutions.items():
    logit = np.log(x.agreement / (1 - x.agreement))
    want = x.ref_odds + sign * logit / beta
    worst = max(worst, np.abs((x.odds - want) * beta).max())
    wrong += int(np.sum(ideal(x, beta) != (sign * x.odds > 0)))
    right += len(x.odds)
    enough = x.agreement >= 0.5 * (1 + np.tanh(-0.5 * beta * x.ref_odds))
    flips += int(np.sum(enough != (x.odds >= 0)))
    residual = max(residual, x.residual)
    at = max(at, np.abs(x.loss + np.log(x.agreement)).max())
  share = {beta: 100 * np.mean(x.odds > 0) for beta, x in solutions.items()}
  base = 100 * np.mean(solutions[1.0].ref_odds > 0)
  cyclic = solved(1.0, rewarded=False)
  match = np.mean(ideal(cyclic, 1.0) == (cyclic.odds > 0))
  return [
    Claim(
      CHEN,
      "the optimum's log-odds are the reference's plus logit(agreement) / beta;"
      " that ranks or misranks a pair (cor. 3.3)",
      f"Newton's optimum of {GAMES} games (gradient {residual:.0e}): beta times"
      f" log-odds within {worst:.0e}, {wrong} of {right:,} rankings differ",
      worst < 1e-9 and not wrong and residual < 1e-12,
    ),
    Claim(
      CHEN,
      "so perfect training ranks a pair rightly if and only if"
      " agreement >= sigmoid(beta c); its loss is -log(agreement)",
      f"{flips} exceptions; losses within {at:.0e}",
      not flips and at < 1e-9,
    ),
    Claim(
      CHEN,
      "the idealised accuracy is below 100 % and falls with beta to the"
      " reference's",
      ", ".join(f"beta {b:g}: {s:.1f} %" for b, s in share.items())
      + f"; reference {base:.1f} %",
      all(a >= b for a, b in zip(share.values(), list(share.values())[1:]))
      and base - 1 <= share[BETAS[-1]] < share[BETAS[0]],
    ),
    Claim(
      "ours",
      "it needs preferences that some reward explains: with random ones the"
      " formula isn't the optimum's ranking",
      f"{100 * match:.1f} % of the pairs agree, beta 1",
      match < 0.99,
    ),
  ]


def claims() -> list[Claim]:
  """All claims of this page."""
  return [
    *flip_claims(),
    *ipo_claims(),
    *proposition_claims(),
    *optimum_claims(),
  ]


def draw() -> Figure:
  """Plots the limit over c, losses at an optimum, and idealised accuracy."""
  figure = new_figure(13, 4, "How small the loss must be, and what it can't do")
  limits, optima, shares = figure.subplots(1, 3)
  c = np.linspace(-30, 60, 400)
  for beta, colour in zip(BETAS[:4], PALETTE):
    y = np.logaddexp(0, -beta * c)
    limits.semilogy(c, y, color=colour, label=f"beta {beta:g}")
  limits.axhline(np.log(2), color="#888888", linewidth=1, linestyle=":")
  limits.text(58, np.log(2) * 1.15, "ln 2", ha="right", color="#555555")
  limits.set(ylim=(1e-8, 300), ylabel="loss at which the ranking flips, nats")
  limits.set_title("DPO's limit")
  limits.yaxis.set_major_formatter("{x:g}")
  limits.legend(frameon=False, loc="lower left")
  beta = 0.5
  solution = solved(beta)
  right = solution.odds > 0
  against = -solution.ref_odds
  grid = np.linspace(against.min() - 1, against.max() + 1, 300)
  optima.plot(grid, np.logaddexp(0, -beta * grid), color="#333333")
  for mask, colour, label in (
    (right, PALETTE[0], "ranked as labelled"),
    (~right, PALETTE[1], "not"),
  ):
    style = {"s": 12, "alpha": 0.7, "linewidths": 0}
    optima.scatter(
      against[mask], solution.loss[mask], color=colour, label=label, **style
    )
  optima.set(ylim=(0, 1.2), ylabel="loss, nats")
  optima.set_title(f"At the optimum, {GAMES} games, beta {beta:g}")
  optima.legend(frameon=False, loc="upper right")
  for axes in (limits, optima):
    axes.set_xlabel("c: the reference's log-odds against the pair, nats")
  finer = np.geomspace(0.01, 10, 200)
  logit = np.log(solution.agreement / (1 - solution.agreement))
  curve = [100 * np.mean(solution.ref_odds + logit / b > 0) for b in finer]
  shares.semilogx(finer, curve, color=PALETTE[0], label="corollary 3.3")
  dots = [100 * np.mean(solved(b).odds > 0) for b in BETAS]
  shares.plot(BETAS, dots, "o", color=PALETTE[1], label="Newton's optimum")
  base = 100 * np.mean(solution.ref_odds > 0)
  shares.axhline(base, color="#888888", linewidth=1, linestyle=":")
  shares.text(0.01, base + 1, "reference", color="#555555")
  shares.set(
    xlabel="beta", ylabel="pairs ranked as labelled, %", ylim=(40, 103)
  )
  shares.set_title("Idealised accuracy")
  shares.xaxis.set_major_formatter("{x:g}")
  shares.legend(frameon=False)
  return figure


if __name__ == "__main__":
  out = out_folder(__doc__)
  title = "What a loss says about a ranking"
  sys.exit(report("rankings", title, claims(), draw, out))
