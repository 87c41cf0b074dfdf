"""What DPO does to likelihoods: drop, degradation, dispersion, in closed form.

python -m experiments.papers.likelihoods --out=runs/papers

Yan et al. 2024, "3D-Properties: Identifying Challenges in DPO and Charting a
Path Forward", arXiv:2406.07327. There are three outcomes. DPO is told that the
first beats the second; the third is in no pair. Gradient descent in float64.
`likelihoods_trained` looks at trained policies. Cost: 6 s on a CPU core.
"""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.papers.claims import Claim, out_folder, report
from jalign import diagnostics, losses
from jalign.pages.style import PALETTE, new_figure

YAN = "Yan et al. 2024, arXiv:2406.07327"
LIU = "Liu et al. 2024, arXiv:2405.16436"
YUAN = "Yuan et al. 2024, arXiv:2410.13828"
OUTCOMES = ("chosen", "rejected", "unseen")
BETA, STEPS, EARLY, RATE = 0.1, 4000, 200, 0.05
# One parameter per outcome; and parameters that chosen and rejected share.
TABLE = np.eye(3)
SHARED = np.array([[1.0, 0.0], [1.5, 0.5], [-1.0, 0.0]])
TOYS = {
  "a parameter each, chosen likelier": (TABLE, (0.3, 0.2, 0.5)),
  "a parameter each, rejected likelier": (TABLE, (0.05, 0.6, 0.35)),
  "shared parameters": (SHARED, (0.3, 0.3, 0.4)),
}
LIKELIER, UNLIKELIER, TIED = TOYS


def in_probabilities(w, l, ref_w, ref_l, beta):  # noqa: E741
  """DPO's loss of a pair, as a function of four probabilities."""
  logps = [jnp.log(jnp.reshape(x, (1,))) for x in (w, l, ref_w, ref_l)]
  return losses.dpo(*logps, beta=beta)[0]


def derivative_claims(sign: int = 1) -> list[Claim]:
  """Claims on derivatives by the two probabilities, each taken by itself.

  Args:
    sign: -1 turns the ratio upside down, a mistake for tests.
  """
  rng = np.random.default_rng(0)
  points = jnp.asarray(rng.dirichlet(np.ones(3), 1000)[:, :2])
  refs = jnp.asarray(rng.dirichlet(np.ones(3), 1000)[:, :2])
  loss = jax.vmap(functools.partial(in_probabilities, beta=BETA))
  w, l, ref_w, ref_l = *points.T, *refs.T  # noqa: E741
  h = 1e-5
  down = (loss(w * (1 + h), l, ref_w, ref_l)
          - loss(w * (1 - h), l, ref_w, ref_l)) / (2 * h * w)  # fmt: skip
  up = (loss(w, l * (1 + h), ref_w, ref_l)
        - loss(w, l * (1 - h), ref_w, ref_l)) / (2 * h * l)  # fmt: skip
  u, v = (w / ref_w) ** BETA, (l / ref_l) ** BETA
  want_down, want_up = -BETA / w * v / (u + v), BETA / l * v / (u + v)
  off = lambda got, want: float(jnp.abs(got / want - 1).max())
  closed = max(off(down, want_down), off(up, want_up))
  ratio = off(up / -down, (w / l) ** sign)
  powers = []
  small = jnp.asarray([1e-30, 1e-33])
  at = lambda l: (0.3, l, 0.3, 0.3, BETA)  # noqa: E741
  for argument in (0, 1):
    slope = jax.grad(in_probabilities, argument)
    a, b = (float(jnp.log(jnp.abs(slope(*at(l))))) for l in small)  # noqa: E741
    powers.append((a - b) / float(jnp.log(small[0] / small[1])))
  want = BETA, BETA - 1
  return [
    Claim(
      YAN,
      "dl/dp_w = -(beta / p_w) v / (u + v) and dl/dp_l = (beta / p_l) v / (u"
      " + v), u and v the ratios to the reference to the power beta",
      f"finite differences within {closed:.0e}, 1,000 policies",
      closed < 1e-8,
    ),
    Claim(
      YAN,
      "so the rejected's derivative is p_w / p_l times the chosen's",
      f"within {ratio:.0e}",
      ratio < 1e-8,
    ),
    Claim(
      YAN,
      "as p_l goes to 0 the chosen's derivative vanishes as p_l^beta and the"
      " rejected's grows as p_l^(beta - 1)",
      f"powers {powers[0]:.4f} and {powers[1]:.4f}, beta {BETA:g}",
      max(abs(p - q) for p, q in zip(powers, want)) < 5e-3,
    ),
  ]


@functools.partial(jax.jit, static_argnums=0)
def _descend(loss, features, base):
  """[STEPS + 1, 3] log-probs of softmax(base + features @ theta)."""
  policy = lambda theta: jax.nn.log_softmax(base + features @ theta)
  ref = jax.nn.log_softmax(base)

  def value(theta):
    logps = policy(theta)
    arrays = (logps[:1], logps[1:2], ref[:1], ref[1:2])
    return loss(*arrays)[0] / BETA

  def step(theta, _):
    return theta - RATE * jax.grad(value)(theta), policy(theta)

  start = jnp.zeros(features.shape[1])
  theta, path = jax.lax.scan(step, start, None, length=STEPS)
  return jnp.concatenate([path, policy(theta)[None]])


@functools.cache
def descend(toy: str, name: str = "dpo", **settings: float) -> np.ndarray:
  """[STEPS + 1, 3] log-probs of a toy's outcomes, nats."""
  features, p = TOYS[toy]
  loss, _ = losses.resolve(name, **(settings or {"beta": BETA}))
  with jax.enable_x64(True):
    return np.asarray(_descend(loss, features, jnp.log(jnp.asarray(p))))


def flex(toy: str, share: float) -> np.ndarray:
  """The path with the rejected's beta a share of the chosen's."""
  betas = {"beta_chosen": BETA, "beta_rejected": share * BETA}
  return descend(toy, "flex_dpo", **betas)


def gradients(toy: str) -> tuple[float, float, float]:
  """|g_w|^2, |g_l|^2 and <g_w, g_l> of the log-probs' gradients, at first."""
  features, p = TOYS[toy]
  g_w, g_l, _ = features - np.asarray(p) @ features
  return g_w @ g_w, g_l @ g_l, g_w @ g_l


def drop_claims() -> list[Claim]:
  """Claims on the three properties: where they occur, and where they can't."""
  paths = {toy: descend(toy) for toy in TOYS}
  moved = {toy: path[-1] - path[0] for toy, path in paths.items()}
  up, down, _ = moved[LIKELIER]
  most = -paths[LIKELIER][0, 0]
  rises = min(np.diff(paths[t][:, 0]).min() for t in (LIKELIER, UNLIKELIER))
  w, l, u = np.exp(paths[UNLIKELIER][0])  # noqa: E741
  peak = np.exp(paths[UNLIKELIER][:, 2].max())
  formula = u / (u + 2 * np.sqrt(w * l))
  falls = np.diff(paths[LIKELIER][:, 2]).max()
  fallen, dropped, _ = moved[TIED]
  with jax.enable_x64(True):
    arrays = [jnp.asarray([x]) for x in (*gradients(TIED), BETA / 2, BETA / 2)]
    case = diagnostics.CASES[int(diagnostics.forecast(*arrays).case[0])]
  unseen = np.exp(paths[TIED][[0, -1], 2])
  return [
    Claim(
      YAN,
      "drop: the chosen's log-prob can rise by -log p_w, the rejected's falls"
      " on and on",
      f"{STEPS:,} steps: {up:+.2f} (at most {most:.2f}) and {down:+.1f} nats",
      0 < up <= most and down < -10 * up,
    ),
    Claim(
      YUAN,
      "with a parameter for each outcome the chosen never falls",
      f"least change in a step {rises:+.0e} nats, two references",
      rises > 0,
    ),
    Claim(
      YAN,
      "dispersion: there the unseen gains only while the rejected is likelier"
      " than the chosen, up to p_u / (p_u + 2 sqrt(p_w p_l)) (our formula)",
      f"from {u:.2f} to {peak:.5f}, formula {formula:.5f}; where the chosen is"
      f" likelier its largest change in a step is {falls:+.0e} nats",
      abs(peak / formula - 1) < 2e-4 and falls < 0,
    ),
    Claim(
      YAN,
      "degradation: with shared parameters the chosen falls along with the"
      " rejected, and the unseen takes everything",
      f"forecast of the first step: {case}; {fallen:+.1f} and {dropped:+.1f}"
      f" nats; the unseen from {unseen[0]:.2f} to {unseen[1]:.6f}",
      case == "both down" and dropped < fallen < -5 and unseen[1] > 0.999,
    ),
  ]


def remedy_claims(sign: int = 1) -> list[Claim]:
  """Claims on Flex-DPO, and on a likelihood beside DPO.

  Args:
    sign: -1 gives the rejected the larger beta, a mistake for tests.
  """
  shares = [x**sign for x in (1.0, 0.5, 0.25)]
  fall = lambda toy, x, step: flex(toy, x)[step, 1] - flex(toy, x)[0, 1]
  early = {toy: [fall(toy, x, EARLY) for x in shares] for toy in TOYS}
  slower = all(np.all(np.diff(falls) > 0) for falls in early.values())
  same = np.abs(flex(TIED, 1.0) - descend(TIED)).max()
  gap = flex(LIKELIER, shares[1])[:, 1] - flex(LIKELIER, 1.0)[:, 1]
  cross = int(np.flatnonzero(gap >= 0)[-1]) + 1
  late = fall(LIKELIER, shares[1], -1), fall(LIKELIER, 1.0, -1)
  up, _, inner = gradients(TIED)
  turn = up / inner
  signs = {}
  for share in (1.01 * turn, 0.99 * turn):
    path = flex(TIED, share)
    signs[share] = float(path[1, 0] - path[0, 0])
  above, below = signs.values()
  mixed = descend(TIED, "rpo", beta=BETA, eta=0.2)
  plain = descend(TIED)
  lowest = mixed[:, 0].min() - mixed[0, 0]
  return [
    Claim(
      YAN,
      "a smaller beta for the rejected (Flex-DPO) slows its fall; equal betas"
      " are DPO",
      f"{EARLY} steps, beta_l / beta_w {', '.join(f'{x:g}' for x in shares)}: "
      + "; ".join(
        f"{', '.join(f'{x:.1f}' for x in falls)} nats ({toy})"
        for toy, falls in early.items()
      )
      + f"; equal ones differ from DPO by {same:.0e}",
      slower and same < 1e-9,
    ),
    Claim(
      "ours",
      "but not for ever: once the chosen can rise no more, a smaller beta_l"
      " takes a longer fall for the same loss",
      f"a parameter each: from step {cross:,} on the rejected is lower under"
      f" half the beta; {STEPS:,} steps: {late[0]:.1f}"
      f" against {late[1]:.1f} nats",
      late[0] < late[1],
    ),
    Claim(
      "ours, from " + YUAN,
      "with shared parameters the chosen stops falling at beta_l / beta_w ="
      " |g_w|^2 / <g_w, g_l>",
      f"{turn:.4f}; first step 1 % above it {above:+.1e}, 1 % below it"
      f" {below:+.1e} nats",
      above < 0 < below,
    ),
    Claim(
      LIU,
      "a likelihood beside DPO (RPO, eta 0.2) brings the chosen back",
      f"p_w from {np.exp(mixed[0, 0]):.2f} to {np.exp(mixed[-1, 0]):.3f}, by"
      f" way of {lowest:+.2f} nats; DPO alone {np.exp(plain[-1, 0]):.0e}",
      np.exp(mixed[-1, 0]) > np.exp(mixed[0, 0]) > np.exp(plain[-1, 0]),
    ),
  ]


def claims() -> list[Claim]:
  """All claims of this script."""
  with jax.enable_x64(True):
    rows = derivative_claims()
  return [*rows, *drop_claims(), *remedy_claims()]


def draw() -> Figure:
  """Draws the three toys under DPO, and the third under Flex-DPO."""
  title = "Told that one of three outcomes beats another: probabilities"
  figure = new_figure(11, 6.6, title)
  grid = figure.subplots(2, 2).ravel()
  steps = np.arange(1, STEPS + 2)
  for axes, toy in zip(grid, TOYS):
    for outcome, colour, curve in zip(OUTCOMES, PALETTE, descend(toy).T):
      axes.plot(steps, np.exp(curve), color=colour, label=outcome)
    axes.set(ylim=(-0.02, 1.02), title=f"DPO: {toy}")
  grid[0].legend(frameon=False, loc="center right")
  last = grid[3]
  for share, dashes in ((1.0, "-"), (0.5, "--"), (0.25, ":")):
    path = flex(TIED, share)
    for i in (0, 1):
      label = f"{share:g}" if i == 0 else None
      style = {"color": PALETTE[i], "linestyle": dashes, "label": label}
      last.plot(steps, path[:, i] - path[0, i], **style)
  last.set(ylim=(-25, 3), ylabel="change of the log-prob, nats")
  last.set_title("Flex-DPO: shared parameters")
  last.legend(
    frameon=False, loc="lower left", title="beta of rejected / of chosen"
  )
  for axes in grid:
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
  for axes in grid[2:]:
    axes.set_xlabel("steps of gradient descent")
  return figure


if __name__ == "__main__":
  out = out_folder(__doc__)
  title = "Likelihoods under DPO: three outcomes"
  sys.exit(report("likelihoods", title, claims(), draw, out))
