"""INPO, SPPO, XPO, EGPO and Adam: one exact fact about each update.

python -m experiments.papers.updates --out=runs/papers

All policies are tabular, in float64; INPO and SPPO are looked at by samples,
too. Cost: 40 s on a CPU core.
"""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from experiments.papers.claims import Claim, out_folder, report
from experiments.papers.sampled_rounds import inpo_claims, sppo_claims
from jalign import games
from jalign.games import examples, solvers
from jalign.pages.style import PALETTE, new_figure

INPO = "Zhang et al. 2024, arXiv:2407.00617"
SPPO = "Wu et al. 2024, arXiv:2405.00675"
XPO = "Xie et al. 2024, arXiv:2405.21046"
EGPO = "Zhou, Fazel, Du 2025, arXiv:2503.08942"
ALPHAS = (0.0, 1e-4, 1e-3, 1e-2)
# (tau, learning rate, steps) of each of EGPO's benchmarks.
BENCHMARK = ((0.1, 0.1, 1000), (0.01, 0.02, 5000), (0.001, 2e-4, 20_000))
METHODS = {
  "mirror descent (Online IPO)": solvers.online_mirror_descent(),
  "Nash-MD": solvers.nash_md(),
  "EGPO": solvers.extragradient(),
}


def _draw_logits(rng, count, n):
  return jax.nn.log_softmax(jnp.asarray(rng.standard_normal((count, n))))


def inpo() -> list[Claim]:
  """Labelled pairs and win rates give INPO losses that differ by a constant."""
  rng = np.random.default_rng(0)
  game, tau, eta = examples.random_game(5, 1), 0.1, 0.5
  p, refs = jnp.asarray(game.preferences), jnp.log(game.reference)
  now, *others = _draw_logits(rng, 5, 5)
  q = jnp.exp(now)
  wins = p @ q
  pairs = q[:, None] * q[None, :]

  def h(x):
    gap = lambda z: z[:, None] - z[None, :]
    return gap(x) - tau / eta * gap(refs) - (eta - tau) / eta * gap(now)

  def labelled(x):  # each pair both ways round, with the winner first
    return (2 * pairs * p * (h(x) - 1 / (2 * eta)) ** 2).sum()

  def by_wins(x):
    return (pairs * (h(x) - (wins[:, None] - wins[None, :]) / eta) ** 2).sum()

  gaps = np.array([labelled(x) - by_wins(x) for x in others])
  game_now = solvers.Game(p, refs, jnp.asarray(tau))
  step = solvers.online_mirror_descent().step(now, game_now, 1 / eta, None)
  return [
    Claim(
      INPO,
      "the loss on labelled pairs is that on win rates plus a constant"
      " (prop. 6)",
      f"{gaps.mean():.10f} on 4 policies, spread {np.ptp(gaps):.0e}",
      np.ptp(gaps) < 1e-13,
    ),
    Claim(
      INPO,
      "its minimiser is the mirror step of size 1 / eta",
      f"loss there {float(by_wins(step)):.0e}",
      float(by_wins(step)) < 1e-25,
    ),
  ]


def sppo() -> list[Claim]:
  """SPPO's 1/2 stands for log Z / eta, which is exact to first order."""
  rng = np.random.default_rng(0)
  game, (now,) = examples.random_game(5, 1), _draw_logits(rng, 1, 5)
  q = np.exp(np.asarray(now))
  wins = game.preferences @ q
  z = {eta: float(q @ np.exp(eta * (wins - 0.5))) for eta in (0.1, 1.0, 10.0)}
  return [
    Claim(
      SPPO,
      "1/2 stands for the log of a normaliser, exact to first order in eta",
      "normaliser "
      + ", ".join(f"{v:.5f} at eta {eta:g}" for eta, v in z.items()),
      abs(z[0.1] - 1) < 1e-3 < z[10.0] - 1
      and 50 < (z[1.0] - 1) / (z[0.1] - 1) < 150,
    )
  ]


@functools.cache
def stuck() -> dict[float, float]:
  """alpha -> share of 20 runs over 1/8 below the optimum after 200 rounds."""
  beta, gap, rounds, seeds = 0.02, 0.5, 200, 20
  best = np.exp(-1 / (8 * beta))
  base = np.log(best) - np.log1p(-best)  # log-odds of the reference
  # beta times the difference of log-ratios is a reward, bounded by 1.
  grid = base + np.linspace(-1, 1, 4001) / beta
  reward = beta * (grid - base)
  on_best, on_other = -np.logaddexp(0, -grid), -np.logaddexp(0, grid)
  correct = 1 / (1 + np.exp(-gap))
  shares = {}
  for alpha in ALPHAS:
    bad = 0
    for seed in range(seeds):
      rng = np.random.default_rng(seed)
      odds, total = base, np.zeros_like(grid)
      for _ in range(rounds):
        ours = rng.random() < 1 / (1 + np.exp(-odds))
        theirs = rng.random() < best  # from the reference
        label = rng.random() < correct
        if ours != theirs:
          total += np.logaddexp(0, -reward if label else reward)
        total += alpha * (on_best if theirs else on_other)
        # Of equal totals, the nearest to the reference: without data it stays.
        odds = grid[np.lexsort((np.abs(grid - base), total))[0]]
      bad += gap / (1 + np.exp(odds)) > 1 / 8
    shares[alpha] = bad / seeds
  return shares


def xpo() -> list[Claim]:
  """XPO's bonus on two arms, of which the reference hides the better one."""
  share = stuck()
  return [
    Claim(
      XPO,
      "where the reference hides the better of two arms, online DPO stays at"
      " the worse and a bonus for exploration finds the better (prop. 2.1's"
      " kind of instance; ours: log-ratios bounded by 1 / beta)",
      "share of runs stuck after 200 rounds: "
      + ", ".join(f"alpha {a:g}: {100 * s:.0f} %" for a, s in share.items()),
      share[0.0] >= 0.5 and share[1e-2] == 0,
    )
  ]


def _ipo(x, game, tau):
  """EGPO's benchmark loss: uniform ordered pairs, with win rates held fixed."""
  wins = jax.lax.stop_gradient(game.preferences @ jax.nn.softmax(x))
  ratios = x - game.log_reference
  h = ratios[:, None] - ratios[None, :]
  return jnp.mean((h - (wins[:, None] - wins[None, :]) / tau) ** 2)


@functools.cache
def benchmark() -> dict:
  """(method, tau) -> [10 games, steps + 1] duality gaps."""
  made = [examples.egpo_benchmark(seed) for seed in range(10)]
  stack = lambda at: jnp.asarray(np.stack([game[at] for game in made]))
  curves = {}
  for tau, rate, steps in BENCHMARK:
    step_size = 4 * rate / (tau * 10)
    for name, solver in METHODS.items():

      def run_game(
        preferences, reference, solver=solver, tau=tau, size=step_size, n=steps
      ):
        game = solvers.Game(preferences, jnp.log(reference), jnp.asarray(tau))

        def body(x, _):
          x = solver.step(x, game, size, None)
          gap = jnp.exp(x) @ (x - game.response(x))
          return x, 2 * tau * gap

        return jax.lax.scan(body, game.log_reference, None, length=n)[1]

      gaps = jax.jit(jax.vmap(run_game))(stack(0), stack(1))
      curves[name, tau] = np.asarray(gaps)
  return curves


def egpo() -> list[Claim]:
  """EGPO's benchmark, and what its gradient step equals."""
  worst = 0.0
  for seed in range(5):
    example, tau, rate = examples.egpo_benchmark(seed), 0.01, 0.02
    game = solvers.Game(
      jnp.asarray(example.preferences),
      jnp.log(example.reference),
      jnp.asarray(tau),
    )
    (x,) = _draw_logits(np.random.default_rng(seed), 1, 10)
    sgd = jax.nn.log_softmax(x - rate * jax.grad(_ipo)(x, game, tau))
    step = 4 * rate / (tau * 10)
    omd = solvers.online_mirror_descent().step(x, game, step, None)
    worst = max(worst, float(jnp.abs(sgd - omd).max()))
  ends = {
    tau: [f"{np.median(benchmark()[name, tau][:, -1]):.0e}" for name in METHODS]
    for tau, *_ in BENCHMARK
  }
  last = lambda name, tau: np.median(benchmark()[name, tau][:, -1])
  return [
    Claim(
      EGPO,
      "a gradient step on the squared loss over uniform pairs is a mirror step"
      " of size 4 lr / (tau n) (the paper's code prints half of it)",
      f"log policies differ by {worst:.0e}",
      worst < 1e-10,
    ),
    Claim(
      EGPO,
      "on the tabular benchmark the extragradient method ends nearest",
      f"median duality gap of {', '.join(METHODS)}: "
      + "; ".join(f"tau {tau:g}: {', '.join(e)}" for tau, e in ends.items()),
      all(
        last("EGPO", tau) <= 1.01 * min(last(name, tau) for name in METHODS)
        or last("EGPO", tau) < 1e-14
        for tau, *_ in BENCHMARK
      ),
    ),
  ]


@functools.cache
def orbits() -> dict[str, np.ndarray]:
  """optimizer -> KL(Nash, policy) in self-play with exact gradients."""
  example, tau = examples.rock_paper_scissors(0.4), 0.02
  game = solvers.Game(
    jnp.asarray(example.preferences),
    jnp.log(example.reference),
    jnp.asarray(tau),
  )

  def ascent(x):
    policy = jax.nn.softmax(x)
    gains = game.preferences @ policy - tau * jax.nn.log_softmax(x)
    return policy * (gains - policy @ gains)

  def train(optimizer):
    def body(carry, _):
      x, state = carry
      updates, state = optimizer.update(-ascent(x), state, x)
      x = optax.apply_updates(x, updates)
      return (x, state), games.kl(jnp.full(3, 1 / 3), jax.nn.softmax(x))

    start = jnp.asarray([1.0, -1.0, 0.0])
    carry = (start, optimizer.init(start))
    return np.asarray(jax.lax.scan(body, carry, None, length=20_000)[1])

  return {
    "SGD": train(optax.sgd(0.1)),
    "Adam, b1 0.9": train(optax.adam(1e-2)),
    "Adam, b1 0": train(optax.adam(1e-3, b1=0.0)),
  }


def adam() -> list[Claim]:
  """Adam's momentum turns convergence to a cyclic equilibrium into an orbit."""
  end = {name: float(curve[-1000:].max()) for name, curve in orbits().items()}
  sgd, momentum, without = end.values()
  return [
    Claim(
      "ours",
      "Adam with momentum orbits a cyclic equilibrium that SGD, or Adam"
      " without momentum, reaches",
      "largest KL in the last 1,000 of 20,000 steps: "
      + ", ".join(f"{name}: {kl:.1e}" for name, kl in end.items()),
      sgd < 1e-8 and momentum > 0.1 and without < 1e-3,
    )
  ]


def claims() -> list[Claim]:
  """All claims of this page."""
  with jax.enable_x64(True):
    exact = [*inpo(), *sppo(), *xpo(), *egpo(), *adam()]
  return [*exact, *inpo_claims(), *sppo_claims()]


def draw() -> Figure:
  """Plots EGPO's benchmark, the shares of stuck runs, and the orbit."""
  figure = new_figure(13, 4, "Updates that look alike, told apart exactly")
  left, middle, right = figure.subplots(1, 3)
  with jax.enable_x64(True):
    for (name, _), colour in zip(METHODS.items(), PALETTE):
      curve = np.median(benchmark()[name, 0.01], 0)
      left.semilogy(np.maximum(curve, 1e-16), color=colour, label=name)
    for (name, curve), colour in zip(orbits().items(), PALETTE):
      right.semilogy(np.maximum(curve, 1e-16), color=colour, label=name)
  left.set_title("EGPO's benchmark, tau 0.01, median of 10")
  left.set_ylabel("duality gap")
  shares = stuck()
  labels = [f"{alpha:g}" for alpha in shares]
  middle.bar(labels, [100 * s for s in shares.values()], color=PALETTE[0])
  middle.set_xlabel("alpha")
  middle.set_title("XPO: runs stuck at the worse arm, %")
  right.set_title("Rock-paper-scissors, tau 0.02: KL(Nash, policy)")
  for axes in (left, right):
    axes.set_xlabel("steps")
    axes.legend(frameon=False, loc="lower right" if axes is left else "best")
    axes.yaxis.set_major_formatter("{x:g}")
  return figure


if __name__ == "__main__":
  out = out_folder(__doc__)
  title = "INPO, SPPO, XPO, EGPO and Adam, in exact games"
  sys.exit(report("updates", title, claims(), draw, out))
