"""Log-probs of sequences, from packed rows if a batch has them.

The model reads rows in which sequences lie side by side. Its output for each
token is then moved to the token's place in the rows of `Sequences`, so that
whatever takes unpacked batches takes packed ones, too.
"""

import jax
import jax.numpy as jnp

from jalign.logprobs import token_logprobs
from jalign.models.heads import last_hidden
from jalign.types import Array, Model, Packed, Params, Sequences


def hidden_states(model: Model, params: Params, sequences: Sequences) -> Array:
  """States that predict tokens 1 .. T - 1 of each sequence.

  Args:
    model: the model's functions.
    params: its parameters.
    sequences: R rows, packed or not.

  Returns:
    [R, T - 1, D]; states past the end of a sequence mean nothing.
  """
  packed = sequences.packed
  if packed is None:
    return model.forward(params, sequences.tokens)[:, :-1]
  return _unpack(_forward(model, params, packed)[0], packed.places)


def last_states(model: Model, params: Params, sequences: Sequences) -> Array:
  """State of the last token of each sequence.

  Args:
    model: the model's functions.
    params: its parameters.
    sequences: R rows, packed or not.

  Returns:
    [R, D].
  """
  if sequences.packed is None:
    hidden = model.forward(params, sequences.tokens)
    return last_hidden(hidden, sequences)
  last = sequences.lengths[:, None] - 1
  return states_at(model, params, sequences, last)[:, 0]


def states_at(
  model: Model, params: Params, sequences: Sequences, columns: Array
) -> Array:
  """States of some tokens of each sequence.

  Args:
    model: the model's functions.
    params: its parameters.
    sequences: R rows, packed or not.
    columns: [R, N] places of the tokens in the sequences; those below 0 count
      as 0.

  Returns:
    [R, N, D].
  """
  if sequences.packed is None:
    hidden = model.forward(params, sequences.tokens)
    at = jnp.maximum(columns, 0)[:, :, None]
    return jnp.take_along_axis(hidden, at, axis=1)
  hidden = _forward(model, params, sequences.packed)[0]
  return _at(hidden, sequences, columns)


def _at(hidden: Array, sequences: Sequences, columns: Array) -> Array:
  """`states_at` from states [G * n, W, D] of packed rows."""
  packed, columns = sequences.packed, jnp.maximum(columns, 0)
  assert packed is not None
  groups, per_group, _ = packed.places.shape
  slots = hidden.reshape(groups, -1, hidden.shape[-1])
  at = jnp.take_along_axis(
    packed.places, columns.reshape(groups, per_group, -1), axis=2
  )
  states = jnp.take_along_axis(
    slots, at.reshape(groups, -1, 1), axis=1, mode="clip"
  )
  return states.reshape(*columns.shape, hidden.shape[-1])


def states_and_logps(
  model: Model, params: Params, sequences: Sequences
) -> tuple[Array, Array]:
  """`last_states` and `token_logps`, from one pass through the model."""
  if sequences.packed is None:
    hidden = model.forward(params, sequences.tokens)
    return last_hidden(hidden, sequences), token_logprobs(
      hidden[:, :-1],
      model.head(params),
      sequences.tokens[:, 1:],
      mask=sequences.mask[:, 1:],
    )
  hidden, tokens = _forward(model, params, sequences.packed)
  last = _at(hidden, sequences, sequences.lengths[:, None] - 1)[:, 0]
  return last, _logps(model, params, sequences, hidden, tokens)


def token_logps(model: Model, params: Params, sequences: Sequences) -> Array:
  """Log-prob of tokens 1 .. T - 1 of each sequence.

  Args:
    model: the model's functions.
    params: its parameters.
    sequences: R rows, packed or not.

  Returns:
    [R, T - 1] float32, nats; 0 where a token isn't scored.
  """
  packed, mask = sequences.packed, sequences.mask[:, 1:]
  if packed is None:
    hidden = hidden_states(model, params, sequences)
    return token_logprobs(
      hidden, model.head(params), sequences.tokens[:, 1:], mask=mask
    )
  return _logps(model, params, sequences, *_forward(model, params, packed))


def _logps(
  model: Model,
  params: Params,
  sequences: Sequences,
  hidden: Array,
  tokens: Array,
) -> Array:
  """`token_logps` from states and tokens of packed rows."""
  packed, mask = sequences.packed, sequences.mask[:, 1:]
  assert packed is not None
  # The last slot of a segment predicts a token that no sequence scores.
  targets = jnp.roll(tokens, -1, axis=1)
  logps = token_logprobs(
    hidden,
    model.head(params),
    targets,
    mask=_pack(mask, packed.places, tokens.shape),
  )
  return jnp.where(mask, _unpack(logps, packed.places), 0.0)


def _forward(
  model: Model, params: Params, packed: Packed
) -> tuple[Array, Array]:
  """States [G * n, W, D] and tokens [G * n, W]."""
  rows = lambda x: x.reshape(-1, x.shape[-1])
  tokens = rows(packed.tokens)
  # Prefixes only if there are any: models that can't share them may still pack.
  more = () if packed.prefix_ids is None else (rows(packed.prefix_ids),)
  hidden = model.forward(
    params, tokens, rows(packed.positions), rows(packed.segment_ids), *more
  )
  return hidden, tokens


def _pack(mask: Array, places: Array, shape: tuple[int, ...]) -> Array:
  """Moves a mask of predicted tokens [R, T - 1] to slots [G * n, W]."""
  groups = places.shape[0]
  at = places[..., :-1].reshape(groups, -1)
  slots = jnp.zeros((groups, shape[0] * shape[1] // groups), bool)
  put = lambda row, at, mask: row.at[at].max(mask)
  slots = jax.vmap(put)(slots, at, mask.reshape(at.shape))
  return slots.reshape(shape)


def _unpack(x: Array, places: Array) -> Array:
  """Moves values of slots [G * n, W, ...] to tokens [R, T - 1, ...]."""
  groups, per_group, length = places.shape
  slots = x.reshape(groups, -1, *x.shape[2:])
  at = places[..., :-1].reshape(groups, -1, *(1,) * (x.ndim - 2))
  # Per group, so that no device asks another device for its slots.
  states = jnp.take_along_axis(slots, at, axis=1, mode="clip")
  return states.reshape(groups * per_group, length - 1, *x.shape[2:])
