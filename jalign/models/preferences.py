"""How preference models' heads become probabilities of preferences.

A form is `(head, params, a [N, D], b [N, D]) -> [N]` log-odds of P(a > b), from
the states of two responses. It belongs to the loss that a head is trained by,
and P(a > b) + P(b > a) is 1 in each.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from jalign.losses import general_preference_score
from jalign.types import Array, Params

Form = Callable[[Any, Params, Array, Array], Array]


def difference(head: Any, params: Params, a: Array, b: Array) -> Array:
  """f(a, b) - f(b, a), the logit of `losses.pairwise_preference`."""
  return head.compare(params, a, b) - head.compare(params, b, a)


def averaged(head: Any, params: Params, a: Array, b: Array) -> Array:
  """Log-odds of the mean of two orders: `losses.pairwise_preference_averaged`.

  P(a > b) is (sigmoid(f(a, b)) + 1 - sigmoid(f(b, a))) / 2.
  """
  first, second = head.compare(params, a, b), head.compare(params, b, a)
  log_sigmoid = jax.nn.log_sigmoid
  won = jnp.logaddexp(log_sigmoid(first), log_sigmoid(-second))
  lost = jnp.logaddexp(log_sigmoid(-first), log_sigmoid(second))
  return won - lost


def embedded(head: Any, params: Params, a: Array, b: Array) -> Array:
  """The score of two embeddings, the logit of `losses.general_preference`."""
  return general_preference_score(head.embed(params, a), head.embed(params, b))


FORMS: Mapping[str, Form] = MappingProxyType(
  {"difference": difference, "averaged": averaged, "embedded": embedded}
)
