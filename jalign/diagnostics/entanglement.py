"""Gradient entanglement: which log-probs a step of a pairwise loss moves.

A gradient step moves both log-probs of a pair by the two norms and the inner
product of their gradients, weighed by the loss's coefficients d_w and d_l
(`pulls`, `pulls_of`): to first order, for a learning rate e,

  change of log pi(y_w) = e (d_w |g_w|^2 - d_l <g_w, g_l>)
  change of log pi(y_l) = e (d_w <g_w, g_l> - d_l |g_l|^2)

Yuan et al. 2024, "A Common Pitfall of Margin-based Language Model Alignment:
Gradient Entanglement", arXiv:2410.13828. This holds for plain SGD on one pair;
Adam, clipping and the other pairs of a batch can alter the signs, so
measure `changes` beside it.
"""

import fnmatch
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from jalign.errors import UserError
from jalign.training.objective import Objective
from jalign.types import Array, Params, Sequences

Groups = Mapping[str, tuple[str, ...]]
ALL: Groups = {"all": ("*",)}
CASES = ("ideal", "both up", "both down", "reversed")
SHARES = tuple(f"{case.replace(' ', '_')}_share" for case in CASES)
# (params, sequences of R rows) -> [R] summed log-probs of the responses.
LogProbs = Callable[[Params, Sequences], Array]


class Products(NamedTuple):
  """Squared norms and inner product of a pair's two gradients.

  Attributes:
    chosen: name of a group -> [P] |grad log pi(y_w)|^2.
    rejected: the same of y_l.
    inner: [P] inner products of the two.
  """

  chosen: dict[str, Array]
  rejected: dict[str, Array]
  inner: dict[str, Array]

  def cosine(self, group: str = "all") -> Array:
    """[P] cosine of the angle between the two gradients."""
    norms = jnp.sqrt(self.chosen[group] * self.rejected[group])
    return self.inner[group] / norms


def gradient_products(
  logps: LogProbs, params: Params, sequences: Sequences, groups: Groups = ALL
) -> Products:
  """Gradients of each pair's two log-probs, reduced to three numbers a group.

  One backward pass a response, one pair after another. A gradient lies where
  its parameter lies, and only sums leave the devices.

  Args:
    logps: of the rows under parameters: those that the gradients are of. With
      a low-rank change, `lambda delta, rows: sequence_logprobs(model,
      join(delta, base), rows)`.
    params: the parameters.
    sequences: 2P rows, chosen and rejected interleaved.
    groups: name -> patterns, as a shell has them, of paths of parameters.

  Raises:
    UserError: a pattern matches no parameter.
  """
  members = _members(params, groups)
  rows = sequences.replace(packed=None)
  pairs = jax.tree.map(lambda x: x.reshape(-1, 2, 1, *x.shape[1:]), rows)

  def reduced(pair):
    of = lambda i: lambda p: logps(p, jax.tree.map(lambda x: x[i], pair))[0]
    up, down = (jax.tree.leaves(jax.grad(of(i))(params)) for i in (0, 1))
    dots = [[_dot(a, b) for a, b in zip(*two)]
            for two in ((up, up), (down, down), (up, down))]  # fmt: skip
    return [
      {name: sum(products[i] for i in at) for name, at in members.items()}
      for products in dots
    ]

  return Products(*jax.lax.map(reduced, pairs))


def _members(params, groups) -> dict[str, list[int]]:
  """Group -> indices of its leaves."""
  paths = [
    "/".join(str(getattr(k, "key", getattr(k, "name", k))) for k in path)
    for path, _ in jax.tree_util.tree_leaves_with_path(params)
  ]
  for name, patterns in groups.items():
    for pattern in patterns:
      if not fnmatch.filter(paths, pattern):
        raise UserError(
          f"{pattern!r} matches no parameter.",
          where=f"groups[{name!r}]",
          remedy=f"There are: {', '.join(paths)}.",
        )
  return {
    name: [
      i
      for i, path in enumerate(paths)
      if any(fnmatch.fnmatch(path, pattern) for pattern in patterns)
    ]
    for name, patterns in groups.items()
  }


def _dot(a, b):
  return jnp.sum(a.astype(jnp.float32) * b.astype(jnp.float32))


class Forecast(NamedTuple):
  """What one step of SGD on a pair does to it, to first order.

  Attributes:
    chosen: [P] change of log pi(y_w) for a learning rate of 1, nats.
    rejected: [P] the same of y_l.
    case: [P] int32 index in `CASES`: which of the two rise.
    threshold: [P] min(rho |g_w|^2, |g_l|^2 / rho) with rho = d_w / d_l: where
      both coefficients are positive, the case is ideal if and only if the
      inner product is below it. NaN or infinite where one is 0.
    margin: [P] threshold less inner product.
    cosine: [P] of the two gradients.
    cosine_threshold: [P] the threshold of the cosine, at most 1.
  """

  chosen: Array
  rejected: Array
  case: Array
  threshold: Array
  margin: Array
  cosine: Array
  cosine_threshold: Array


def forecast(
  chosen: Array, rejected: Array, inner: Array, d_w: Array, d_l: Array
) -> Forecast:
  """The law at the head of this file.

  Args:
    chosen: [P] |g_w|^2.
    rejected: [P] |g_l|^2.
    inner: [P] <g_w, g_l>.
    d_w: [P] the loss's pull up on y_w.
    d_l: [P] its pull down on y_l.
  """
  chex.assert_equal_shape([chosen, rejected, inner, d_w, d_l])
  up = d_w * chosen - d_l * inner
  down = d_w * inner - d_l * rejected
  rho = d_w / d_l
  threshold = jnp.minimum(rho * chosen, rejected / rho)
  norms = jnp.sqrt(chosen * rejected)
  return Forecast(
    up,
    down,
    case_of(up, down),
    threshold,
    threshold - inner,
    inner / norms,
    threshold / norms,
  )


def pulls(
  objective: Objective,
  params: Params,
  batch: Any,
  ref_params: Params | None = None,
  *,
  chosen_alone: bool = False,
) -> tuple[Array, Array]:
  """(d_w, d_l), both [P], of any loss that an objective holds.

  By one backward pass through the loss, none through the model; `pulls_of` has
  them from the loss's arrays alone. Each is of the summed loss: the weights of
  the batch are in it.

  Args:
    objective: from `make_objective`.
    params: the policy's.
    batch: of the loss's kind, of P pairs: rows 0, 2, 4 ... are chosen and the
      others rejected.
    ref_params: the reference's.
    chosen_alone: the batch has P rows, all of them chosen: d_l is 0.
  """
  gradient, _ = jax.grad(
    lambda nudge: objective.nudged(params, nudge, batch, ref_params),
    has_aux=True,
  )(objective.nudge(params, batch))
  if chosen_alone:
    return -gradient.logps, jnp.zeros_like(gradient.logps)
  d_w, d_l = gradient.logps.reshape(-1, 2).T
  return -d_w, d_l


def pulls_of(
  loss: Callable[..., Array], arrays: Mapping[str, Array]
) -> tuple[Array, Array]:
  """(d_w, d_l), both [P], of a loss on pairs, without a model.

  d_w = -dl / d log pi(y_w) and d_l = dl / d log pi(y_l), l summed over the
  pairs, in the arrays `chosen_logps` and `rejected_logps` alone.

  Args:
    loss: of arrays by name; returns [P].
    arrays: name -> array of P pairs: all that the loss takes.
  """
  gradient = jax.grad(lambda logps: loss(**(dict(arrays) | logps)).sum())(
    {key: arrays[key] for key in ("chosen_logps", "rejected_logps")}
  )
  return -gradient["chosen_logps"], gradient["rejected_logps"]


def case_of(chosen: Array, rejected: Array) -> Array:
  """[P] index in `CASES` of changes of two log-probs; none is a fall."""
  rises, falls = chosen > 0, rejected <= 0
  return jnp.where(
    rises, jnp.where(falls, 0, 1), jnp.where(falls, 2, 3)
  ).astype(jnp.int32)


def case_shares(predicted: Forecast) -> dict[str, Array]:
  """Name of a share -> [P], 1 where the forecast is that case."""
  return {
    name: (predicted.case == i).astype(jnp.float32)
    for i, name in enumerate(SHARES)
  }


def changes(
  logps: LogProbs, before: Params, after: Params, sequences: Sequences
) -> tuple[Array, Array]:
  """([P], [P]) what a real step did to both log-probs of each pair, nats."""
  rows = sequences.replace(packed=None)
  moved = (logps(after, rows) - logps(before, rows)).reshape(-1, 2)
  return moved[:, 0], moved[:, 1]


def normalised_pulls(
  pull: Array, chosen: Array, rejected: Array
) -> tuple[Array, Array]:
  """Pulls under which no chosen log-prob falls and no rejected one rises.

  Each gradient is divided by its norm: to first order the chosen log-prob
  changes by pull |g_w| (1 - cosine) and the rejected one by minus pull |g_l|
  (1 - cosine). A step takes them as constants: the gradient of
  -(d_w log pi(y_w) - d_l log pi(y_l)).

  Yuan et al. 2024 propose it (pairwise normalised gradient). Its published form
  isn't established: this is our reading.

  Args:
    pull: [P] a loss's coefficient d_w, where d_w = d_l.
    chosen: [P] |g_w|^2.
    rejected: [P] |g_l|^2.

  Returns:
    (d_w, d_l), both [P].
  """
  chex.assert_equal_shape([pull, chosen, rejected])
  return pull / jnp.sqrt(chosen), pull / jnp.sqrt(rejected)
