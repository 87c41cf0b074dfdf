"""Log-probs of all tokens of a row at every position of the row."""

import jax.numpy as jnp

from jalign.logprobs import logits
from jalign.lookup import lookup
from jalign.types import Array, Head


def candidate_logprobs(
  hidden: Array, head: Head, tokens: Array, logps: Array
) -> Array:
  """Log-prob, at every position of a row, of every token of the row.

  Args:
    hidden: [B, T, D] states that predict the tokens.
    head: the model's head.
    tokens: [B, T] int32 token ids.
    logps: [B, T] log-probs of the tokens at their own positions, from
      `token_logprobs`.

  Returns:
    [B, T, C] float32, nats; C = T, column c is for tokens[:, c].
  """
  if head.dense is not None:
    z = jnp.take_along_axis(logits(head, hidden), tokens[:, None], -1)
  else:
    weight: Array = head.weight  # type: ignore[assignment]
    rows = lookup(
      weight,
      tokens,
      hidden.dtype,
      vocab_axis=head.vocab_axis,
      width_axis=head.width_axis,
      batch_axes=head.batch_axes,
    )
    raw = jnp.einsum(
      "BTD,BCD->BTC", hidden, rows, preferred_element_type=jnp.float32
    )
    z = raw * head.scale
    if head.soft_cap is not None:
      z = head.soft_cap * jnp.tanh(z / head.soft_cap)
  own = jnp.diagonal(z, axis1=1, axis2=2)  # the logits whose logps are known
  return z + (logps - own)[:, :, None]
