"""Entanglement token by token: K_ij = <grad log pi(w_i), grad log pi(l_j)>.

The sum of K over the scored tokens of both responses is the inner product of
the responses' gradients. Yuan et al. 2024, arXiv:2410.13828.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jalign.errors import UserError
from jalign.logprobs import logits
from jalign.types import Array, Head, Model, Params, Sequences

# (params, sequences of R rows) -> [R, T - 1] log-probs of tokens 1 .. T - 1;
# 0 for tokens that aren't scored.
TokenLogProbs = Callable[[Params, Sequences], Array]


def dense_logprobs(model: Model) -> TokenLogProbs:
  """Makes log-probs that go through the full logits of the rows.

  The streamed log-probs have a gradient of their own, and no forward mode.
  """

  def logps(params, rows):
    hidden = model.forward(params, rows.tokens)[:, :-1]
    dense = jax.nn.log_softmax(logits(model.head(params), hidden), -1)
    picked = jnp.take_along_axis(dense, rows.tokens[:, 1:, None], -1)[..., 0]
    return jnp.where(rows.mask[:, 1:], picked, 0.0)

  return logps


def token_gram(logps: TokenLogProbs, params: Params, pair: Sequences) -> Array:
  """The exact matrix K, by one vjp and one jvp per token of the rejected row.

  Args:
    logps: log-probs of the rows' tokens, with forward mode: see
      `dense_logprobs`.
    params: the parameters that the gradients are by.
    pair: 2 rows, chosen and rejected.

  Returns:
    [T - 1, T - 1] float32. Rows are the chosen response's tokens 1 .. T - 1,
    columns the rejected one's; entries are 0 where either isn't scored.
  """
  pair = pair.replace(packed=None)
  of = lambda i: (
    lambda p: logps(p, jax.tree.map(lambda x: x[i : i + 1], pair))[0]
  )
  values, pull = jax.vjp(of(1), params)

  def column(j):
    direction = pull(jnp.zeros_like(values).at[j].set(1.0))[0]
    return jax.jvp(of(0), (params,), (direction,))[1]

  return jax.lax.map(column, jnp.arange(len(values))).T


def last_layer_gram(
  hidden: Array, head: Head, targets: Array, mask: Array
) -> Array:
  """The part of K that comes from the head's weight: <e_i, e_j> <h_i, h_j>.

  h is the state that predicts a token, and e the error of its logits: one at
  the target, minus the softmax. No gradient is computed. The matrix equals
  `token_gram` restricted to an untied head.

  Args:
    hidden: [2, T, D] states that predict the targets, chosen and rejected.
    head: a head without a soft cap.
    targets: [2, T] int32.
    mask: [2, T] bool, True on the tokens that count.

  Returns:
    [T, T] float32, 0 where either token doesn't count.

  Raises:
    UserError: the head has a soft cap, or no weight.
  """
  if head.weight is None or head.soft_cap is not None:
    raise UserError(
      "the matrix has no closed form for a head with a soft cap, or without a"
      " weight.",
      where="head",
      remedy="Use token_gram.",
    )
  h = hidden.astype(jnp.float32)
  p = jax.nn.softmax(logits(head, hidden), -1)
  a, b = targets
  off = p[0] @ p[1].T
  off -= p[0][:, b]  # p_i at the target of j
  off -= p[1][:, a].T
  off += a[:, None] == b
  products = head.scale**2 * off * (h[0] @ h[1].T)
  return jnp.where(mask[0][:, None] & mask[1], products, 0.0)
