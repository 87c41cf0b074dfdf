"""Gradient entanglement of trained transformers under ten losses.

python -m experiments.papers.entanglement_trained --out=experiments/results

Yuan et al. 2024, arXiv:2410.13828. From one SFT policy of the TL;DR world, each
loss trains for 60 steps of Adam. At steps 0, 20 and 60, each held-out pair of a
probe gets a forecast of its own step, and two real steps on this pair alone: a
small step of SGD, and one of Adam with the run's state. Heat maps show a pair
of the world and a pair of hh-rlhf token by token. Cost: about 5 minutes on 2
CPU cores, SFT included.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.papers import policies
from experiments.papers.claims import Claim, report
from experiments.papers.entanglement_figure import draw
from experiments.papers.token_heat import Heat, token_heat
from jalign import diagnostics, losses
from jalign.logprobs import sequence_logprobs
from jalign.training.objective import make_objective
from jalign.training.optimizer import OptimizerConfig, make_optimizer
from jalign.training.state import init_state
from jalign.training.step import make_update
from jalign.types import Model

YUAN = "Yuan et al. 2024, arXiv:2410.13828"
LOSSES: dict[str, dict[str, float]] = {
  "dpo": {"beta": 0.3},
  "r_dpo": {"beta": 0.3},
  "ipo": {"tau": 0.1},
  "simpo": {},
  "slic_hf": {},
  "cpo": {"beta": 0.3},
  "kto": {"beta": 0.3},
  "dpop": {"beta": 0.3, "lam": 5.0},
  "rrhf": {},
  "sppo": {"beta": 0.1},
}
STEPS, BATCH, PAIRS = 60, 32, 48
LOOKS = (0, 20, 60)
LARGEST = 0.01  # nats; SGD's step moves one of the log-probs by so much


class Look(NamedTuple):
  """A probe's pairs at one step of training.

  Attributes:
    cosine: [P] cosine of the two gradients.
    bound: [P] threshold of the cosine.
    case: [P] forecast, an index in `diagnostics.CASES`.
    sgd: [P, 2] changes by a small step of SGD on the pair alone, nats.
    adam: [P, 2] changes by a step of Adam, as the run would take it, nats.
    live: [P] whether the loss pulls on the pair at all.
  """

  cosine: np.ndarray
  bound: np.ndarray
  case: np.ndarray
  sgd: np.ndarray
  adam: np.ndarray
  live: np.ndarray

  def agreement(self, moved: np.ndarray) -> tuple[int, int]:
    """(number of pairs whose forecast case came, number of live pairs)."""
    case = np.asarray(diagnostics.case_of(*moved.T))
    return int((case == self.case)[self.live].sum()), int(self.live.sum())


class Course(NamedTuple):
  """The course of a loss's training.

  Attributes:
    steps: S steps at which means were taken.
    ratios: [S, 2] mean log pi / ref of the probe's pairs, nats.
    looks: step -> Look.
  """

  steps: list[int]
  ratios: np.ndarray
  looks: dict[int, Look]


def make_look(
  model: Model, optimizer: optax.GradientTransformation
) -> Callable[..., Look]:
  """Makes `(state, rows, d_w, d_l) -> Look`, compiled once for all losses."""
  logps = functools.partial(sequence_logprobs, model)

  @jax.jit
  def look(state, rows, d_w, d_l):
    params = state.params

    def pair_look(inputs):
      pair, up, down = inputs
      ascent = jax.grad(lambda p: logps(p, pair) @ jnp.stack([up, -down]))(
        params
      )
      products = diagnostics.gradient_products(logps, params, pair)
      said = diagnostics.forecast(
        *(x["all"] for x in products), up[None], down[None]
      )
      most = jnp.maximum(jnp.abs(said.chosen), jnp.abs(said.rejected))[0]
      rate = LARGEST / jnp.maximum(most, 1e-20)
      # Adam, with the moments of the training so far.
      grads = jax.tree.map(jnp.negative, ascent)
      updates, _ = optimizer.update(grads, state.opt_state, params)
      after = [
        jax.tree.map(lambda p, g: p + rate * g, params, ascent),
        optax.apply_updates(params, updates),
      ]
      before = logps(params, pair)
      by_sgd, by_adam = (logps(p, pair) - before for p in after)
      bound, case = said.cosine_threshold[0], said.case[0]
      return said.cosine[0], bound, case, by_sgd, by_adam, most > 0

    pairs = jax.tree.map(lambda x: x.reshape(-1, 2, *x.shape[1:]), rows)
    return Look(*jax.lax.map(pair_look, (pairs, d_w, d_l)))

  return lambda *args: Look(*map(np.asarray, look(*args)))


_score = jax.jit(
  lambda model, params, rows: sequence_logprobs(model, params, rows),
  static_argnums=0,
)


def course(
  world: policies.Trained,
  name: str,
  optimizer: optax.GradientTransformation,
  look: Callable[..., Look],
) -> Course:
  """Trains with one loss, and looks at the probe's pairs."""
  function, entry = losses.resolve(name, **LOSSES[name])
  objective = make_objective(function, world.model)
  update = make_update(objective, optimizer)
  state = init_state(world.params, optimizer)
  rows = jax.device_put(world.pairs.first("pairs", PAIRS)[0]).sequences
  record = jax.device_put(world.pairs.first(entry.batch, PAIRS)[0])
  pulls = jax.jit(functools.partial(diagnostics.pulls, objective))
  score = functools.partial(_score, world.model, rows=rows)
  start = score(params=world.params)
  batches = world.pairs.loader(entry.batch, "train", BATCH, seed=1)
  steps, ratios, looks = [], [], {}
  for step in range(STEPS + 1):
    if step % 5 == 0:
      moved = np.asarray(score(params=state.params) - start, np.float64)
      steps.append(step)
      ratios.append(moved.reshape(-1, 2).mean(0))
    if step in LOOKS:
      looks[step] = look(
        state, rows, *pulls(state.params, record, world.params)
      )
    if step < STEPS:
      batch = jax.device_put(next(batches).data)
      state, _ = update(state, batch, world.params)
  batches.close()
  print(f"  {name}: log pi / ref {ratios[-1].round(2)} after {STEPS} steps")
  return Course(steps, np.array(ratios), looks)


def _rate(courses: dict[str, Course], which: str) -> dict[str, float]:
  """Loss -> share of pairs, over all looks, whose forecast case came."""
  rates = {}
  for name, course in courses.items():
    counts = [
      look.agreement(getattr(look, which)) for look in course.looks.values()
    ]
    right, total = map(sum, zip(*counts))
    rates[name] = right / total
  return rates


def _listed(rates: dict[str, float]) -> str:
  return ", ".join(f"{name} {100 * rate:.0f} %" for name, rate in rates.items())


def claims(courses: dict[str, Course], heats: dict[str, Heat]) -> list[Claim]:
  """Claims of the paper, on these policies."""
  sgd, adam = _rate(courses, "sgd"), _rate(courses, "adam")
  together = {
    name: course.ratios[-1].prod() > 0 for name, course in courses.items()
  }
  cosines = {
    name: float(course.looks[LOOKS[-1]].cosine.mean())
    for name, course in courses.items()
  }
  not_ideal = {
    name: float(
      np.mean([(x.case != 0)[x.live].mean() for x in c.looks.values()])
    )
    for name, c in courses.items()
  }
  rows = [
    Claim(
      YUAN,
      "chosen and rejected log-probs move together under margin losses",
      f"{sum(together.values())} of {len(together)} losses after {STEPS}"
      " steps: "
      + ", ".join(
        f"{name} {c.ratios[-1][0]:+.1f}, {c.ratios[-1][1]:+.1f}"
        for name, c in courses.items()
      )
      + " nats",
      sum(together.values()) > len(together) / 2,
      finding=True,
    ),
    Claim(
      YUAN,
      "the conditions tell what a small step of SGD on a pair does to it",
      f"{_listed(sgd)}; pairs that aren't ideal: {_listed(not_ideal)}",
      min(sgd.values()) > 0.97,
    ),
    Claim(
      "ours",
      "Adam's step on the same pair, with the run's moments, follows them less"
      " often",
      _listed(adam),
      np.mean(list(adam.values())) < np.mean(list(sgd.values())),
      finding=True,
    ),
    Claim(
      YUAN,
      "the two gradients of a pair point the same way",
      "mean cosine at the last look: "
      + ", ".join(f"{n} {c:.2f}" for n, c in cosines.items()),
      min(cosines.values()) > 0,
      finding=True,
    ),
  ]
  for name, heat in heats.items():
    same, other, total = heat.summary()
    rows.append(
      Claim(
        YUAN,
        f"tokens that both responses share carry the inner product ({name})",
        f"mean cosine {same:.2f} of equal tokens, {other:.2f} of others; the"
        f" matrix adds up to the inner product within {total:.0e}",
        same > other and total < 1e-3,
        finding=True,
      )
    )
  return rows


def main(argv: Any = None) -> int:
  """Trains, draws and reports."""
  flags = policies.flags(__doc__, argv)
  world = policies.world()
  config = OptimizerConfig(learning_rate=3e-4, warmup_steps=5)
  optimizer = make_optimizer(config, STEPS)
  look = make_look(world.model, optimizer)
  courses = {name: course(world, name, optimizer, look) for name in LOSSES}
  heats = {"TL;DR world": token_heat(world)}
  dialogues = policies.hh(flags.hh)
  if dialogues is not None:
    heats["hh-rlhf"] = token_heat(dialogues)
  title = "Gradient entanglement of trained transformers"
  figure = lambda: draw(courses, heats)
  return report(
    "entanglement_trained", title, claims(courses, heats), figure, flags.out
  )


if __name__ == "__main__":
  sys.exit(main())
