"""Gradient entanglement: which log-probs a step of a pairwise loss moves.

How a gradient step moves the two log-probs of a pair depends on the norms of
their gradients g_w and g_l, on the inner product of the two, and on the loss's
coefficients d_w and d_l (`pulls`, `pulls_of`). To first order, for a learning
rate e,

  change of log pi(y_w) = e (d_w |g_w|^2 - d_l <g_w, g_l>)
  change of log pi(y_l) = e (d_w <g_w, g_l> - d_l |g_l|^2)

Yuan et al. 2024, "A Common Pitfall of Margin-based Language Model Alignment:
Gradient Entanglement", arXiv:2410.13828. This holds for plain SGD on one pair.
Adam, clipping and the other pairs of a batch can alter the signs, so measure
the real `changes`, too.
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
  """Squared norms and inner products of the two gradients of P pairs.

  Attributes:
    chosen: name of a group of parameters -> [P] |grad log pi(y_w)|^2.
    rejected: name of a group -> [P] |grad log pi(y_l)|^2.
    inner: name of a group -> [P] inner products of the two gradients.
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
  """Reduces the gradients of each pair's two log-probs to three numbers.

  This takes one backward pass per response, one pair after another. A gradient
  lies where its parameter lies, and only sums leave the devices.

  Args:
    logps: log-probs of rows as a function of the parameters that the gradients
      are by. For a low-rank change, it is `lambda delta, rows:
      sequence_logprobs(model, join(delta, base), rows)`.
    params: the parameters.
    sequences: 2P rows, chosen and rejected alternating.
    groups: name -> patterns, as in a shell, of paths of parameters.

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
  """Name of a group -> indices of its leaves."""
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
          remedy=f"The parameters are: {', '.join(paths)}.",
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
  """What one step of SGD on a pair does to that pair, to first order.

  Attributes:
    chosen: [P] change of log pi(y_w) for a learning rate of 1, nats.
    rejected: [P] change of log pi(y_l) for a learning rate of 1, nats.
    case: [P] int32 index in `CASES`: which of the two log-probs rise.
    threshold: [P] min(rho |g_w|^2, |g_l|^2 / rho) with rho = d_w / d_l. If both
      coefficients are positive, the case is ideal if and only if the inner
      product is below the threshold. NaN or infinite if a coefficient is 0.
    margin: [P] threshold minus inner product.
    cosine: [P] cosine of the angle between the two gradients.
    cosine_threshold: [P] threshold of the cosine, at most 1.
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
  """Applies the law at the head of this file to P pairs.

  Args:
    chosen: [P] |g_w|^2.
    rejected: [P] |g_l|^2.
    inner: [P] <g_w, g_l>.
    d_w: [P] the loss's pull on y_w, upwards.
    d_l: [P] the loss's pull on y_l, downwards.
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

  This takes one backward pass through the loss, and none through the model;
  `pulls_of` gets them from the loss's arrays alone. They are derivatives of the
  summed loss, and so contain the batch's weights.

  Args:
    objective: from `make_objective`.
    params: the policy's parameters.
    batch: a batch of the loss's kind, of P pairs: rows 0, 2, 4 ... are chosen,
      the others rejected.
    ref_params: the reference's parameters.
    chosen_alone: whether the batch has P rows, all of them chosen; d_l is
      then 0.
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

  d_w = -dl / d log pi(y_w) and d_l = dl / d log pi(y_l), where l is the loss
  summed over the pairs, and only the arrays `chosen_logps` and `rejected_logps`
  vary.

  Args:
    loss: function of arrays by name; returns [P].
    arrays: name -> array of P pairs, for all arrays that the loss takes.
  """
  gradient = jax.grad(lambda logps: loss(**(dict(arrays) | logps)).sum())(
    {key: arrays[key] for key in ("chosen_logps", "rejected_logps")}
  )
  return -gradient["chosen_logps"], gradient["rejected_logps"]


def case_of(chosen: Array, rejected: Array) -> Array:
  """[P] indices in `CASES`, from the changes of the chosen and of the rejected
  log-probs; a change of 0 counts as a fall."""
  rises, falls = chosen > 0, rejected <= 0
  return jnp.where(
    rises, jnp.where(falls, 0, 1), jnp.where(falls, 2, 3)
  ).astype(jnp.int32)


def case_shares(predicted: Forecast) -> dict[str, Array]:
  """Name of a case's share -> [P], 1 where that case is forecast, else 0."""
  return {
    name: (predicted.case == i).astype(jnp.float32)
    for i, name in enumerate(SHARES)
  }


def changes(
  logps: LogProbs, before: Params, after: Params, sequences: Sequences
) -> tuple[Array, Array]:
  """([P], [P]) changes of chosen and rejected log-probs in a step, nats."""
  rows = sequences.replace(packed=None)
  moved = (logps(after, rows) - logps(before, rows)).reshape(-1, 2)
  return moved[:, 0], moved[:, 1]


def normalised_pulls(
  pull: Array, chosen: Array, rejected: Array
) -> tuple[Array, Array]:
  """Pulls under which no chosen log-prob falls and no rejected one rises.

  Each gradient is divided by its norm. To first order, the chosen log-prob then
  changes by pull |g_w| (1 - cosine) and the rejected log-prob by
  -pull |g_l| (1 - cosine). A step takes the pulls as constants, and follows the
  gradient of -(d_w log pi(y_w) - d_l log pi(y_l)).

  Yuan et al. 2024 propose it (pairwise normalised gradient). Its published form
  isn't established: this is our reading.

  Args:
    pull: [P] a loss's coefficient d_w, for losses with d_w = d_l.
    pull: [P] a loss's coefficient d_w, where d_w = d_l.
    chosen: [P] |g_w|^2.
    rejected: [P] |g_l|^2.

  Returns:
    (d_w, d_l), both [P].
  """
  chex.assert_equal_shape([pull, chosen, rejected])
  return pull / jnp.sqrt(chosen), pull / jnp.sqrt(rejected)
