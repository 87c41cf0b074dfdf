"""Nash Mirror Prox and its rivals: rates in closed form, and measured.

python -m experiments.papers.mirror_prox --out=runs/papers

Tiapkin et al. 2025, arXiv:2505.19731, version 1. Tabular, in float64. Cost:
about 10 seconds, mostly for making a game of 10,000 actions (1 GB).
"""

import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.papers.claims import Claim, out_folder, report
from jalign import games
from jalign.games import examples, solvers
from jalign.pages.style import PALETTE, new_figure

PAPER = "Tiapkin et al. 2025, arXiv:2505.19731v1"
RIVALS = {
  "Nash-MD": solvers.nash_md(),
  "mirror descent": solvers.online_mirror_descent(),
  "EGPO": solvers.extragradient(),
  "Nash Mirror Prox": solvers.nash_mirror_prox(),
}
SIZES = (10, 100, 1000, 10_000)


def _run(solver, game, tau, steps, step_size, logits):
  start = np.exp(np.asarray(logits, np.float64))
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    return np.asarray(
      games.run(
        solver,
        *game[:2],
        tau,
        steps=steps,
        step_size=step_size,
        start=start / start.sum(),
      ).kl
    )


def _iterations(n: int, tau: float = 0.1) -> int:
  """Number of steps of size 2 from uniform until exploitability < 1e-10."""
  rng = np.random.default_rng(n)
  preferences = rng.random((n, n))
  for i in range(n):  # in place, since the largest game fills 800 MB
    preferences[i, i] = 0.5
    preferences[i + 1 :, i] = 1 - preferences[i, i + 1 :]
  with jax.enable_x64(True):
    reference = jnp.full(n, -np.log(n), jnp.float64)
    game = solvers.Game(
      jnp.asarray(preferences), reference, jnp.asarray(tau, jnp.float64)
    )
    policy, count = reference, 0
    while True:
      policy, gap = _step(policy, game)
      count += 1
      if gap < 1e-10:
        return count


@jax.jit
def _step(policy, game):
  policy = solvers.nash_mirror_prox().step(policy, game, 2.0, None)
  gap = jnp.exp(policy) * (policy - game.response(policy))
  return policy, game.tau * gap.sum()


def claims() -> list[Claim]:
  """Claims of the paper, and what we measure."""
  rows = []
  add = lambda claim, ours, holds: rows.append(
    Claim(PAPER, claim, ours, bool(holds))
  )
  golden, over, rates = examples.golden(), 0, []
  for tau in (1.0, 0.1, 0.01):
    steps = int(25 / np.log1p(2 * tau)) // 2
    kl = _run(RIVALS["Nash Mirror Prox"], golden, tau, steps, 2.0, (3, -3, 0))
    bound = kl[0] * (1 + 2 * tau) ** -np.arange(steps + 1.0)
    over += (kl > bound + 1e-13).sum()
    alive = np.flatnonzero(kl > 1e-11)[-1]
    rates.append((kl[alive] / kl[alive // 2]) ** (1 / (alive - alive // 2)))
  add(
    "KL(Nash, iterate k) <= (1 + 2 tau)^-k KL(Nash, start) at step 2",
    f"{over} violations at tau 1, 0.1, 0.01; measured factors"
    f" {', '.join(f'{r:.3f}' for r in rates)} (bounds 0.333, 0.833, 0.980)",
    over == 0,
  )
  rps, omega = examples.rock_paper_scissors(0.5), 0.5 / 3**0.5
  for name, solver in RIVALS.items():
    kl = _run(solver, rps, 0.1, 9, 1.0, (1e-4, -1e-4, 0))
    measured = (kl[9] / kl[3]) ** (1 / 6)
    theory = float(solver.ratio(1.0, 0.1, omega))
    add(
      f"{name}, step 1, tau 0.1, rock-paper-scissors with margins 0.5: KL falls"
      f" by {theory:.6f} a step (closed form, ours)",
      f"{measured:.6f}",
      abs(measured / theory - 1) < 1e-4,
    )
  counts = []
  for tau in (0.5, 0.1, 0.02):
    kl = _run(RIVALS["Nash Mirror Prox"], rps, tau, 120, 2.0, (2, -2, 0))
    counts.append(int(np.argmax(kl < 1e-12)))
  add(
    "iterations to KL 1e-12 at tau 0.5, 0.1, 0.02 are below 40, 152, 706",
    f"{counts}",
    counts == [18, 45, 86],
  )
  sizes = [_iterations(n) for n in SIZES]
  add(
    "the number of iterations doesn't grow with the number of actions",
    f"{sizes} to exploitability 1e-10 for n = {list(SIZES)}",
    max(sizes[1:]) <= sizes[0],
  )
  return rows


def draw() -> Figure:
  """Draws KL of four methods on one game, and their factors over step sizes."""
  figure = new_figure(10, 4, "Mirror prox takes steps at which others orbit")
  left, right = figure.subplots(1, 2)
  rps, omega = examples.rock_paper_scissors(0.5), 0.5 / 3**0.5
  size = np.geomspace(0.05, 30, 300)
  for (name, solver), colour in zip(RIVALS.items(), PALETTE):
    kl = _run(solver, rps, 0.1, 120, 2.0, (2, -2, 0))
    left.semilogy(np.maximum(kl, 1e-16), color=colour, label=name)
    right.semilogx(
      size, solver.ratio(size, 0.1, omega), color=colour, label=name
    )
  left.set_title("Rock-paper-scissors, tau 0.1, step 2")
  left.set_xlabel("steps")
  left.set_ylabel("KL(Nash, policy), nats")
  left.yaxis.set_major_formatter("{x:g}")
  right.set_title("Factor on KL a step; above 1 it orbits")
  right.axhline(1, color="#888888", linewidth=1)
  right.set_ylim(0, 1.5)
  right.set_xlabel("step size")
  right.xaxis.set_major_formatter("{x:g}")
  right.legend(frameon=False)
  return figure


if __name__ == "__main__":
  out = out_folder(__doc__)
  title = "Nash Mirror Prox and its rivals, in closed form"
  sys.exit(report("mirror_prox", title, claims(), draw, out))
