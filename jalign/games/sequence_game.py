"""Token games small enough to enumerate: V tokens, L of them, V^L responses.

What algorithms estimate from samples is computed here exactly: win rates,
expected losses and, by differentiating these, gradients. Policies are those of
jalign.games.tables, whose `tabular` is a `Model`: the decode loop, the losses
and the updates of language models run on these games as they are.

Exact functions compute in float64, as those of jalign.games.matrix.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jalign.errors import UserError
from jalign.games.matrix import in_float64
from jalign.games.tables import (
  log_probs,
  prefixes,
  sequences,
  table_of,
  token_log_probs,
)
from jalign.losses import array_parameters
from jalign.types import Array

# [N, N] float64 of more responses than these isn't made by accident.
_DENSE = 8192


class SequenceGame(NamedTuple):
  """A game whose actions are token sequences.

  Attributes:
    vocab_size: V.
    length: L, of every response; there is no end of sequence.
    log_reference: [N] log-probs (nats) of the reference over responses.
    prefer: `(a [A, L], b [B, L]) -> [A, B]` P(a is preferred to b), of token
      ids.
  """

  vocab_size: int
  length: int
  log_reference: Array
  prefer: Callable[[Array, Array], Array]

  @in_float64
  def preferences(self) -> Array:
    """[N, N] P(row is preferred), for the functions of jalign.games.matrix.

    Raises:
      UserError: the matrix of more than 8,192 responses is too large; use
        `win_rates`.
    """
    rows = sequences(self.vocab_size, self.length)
    if len(rows) > _DENSE:
      raise UserError(
        f"the matrix of {len(rows):,} responses takes"
        f" {8 * len(rows) ** 2 / 1e9:.1f} GB.",
        where="sequence_game.preferences",
        remedy="win_rates(game, policy) never holds it.",
      )
    return self.prefer(jnp.asarray(rows), jnp.asarray(rows))

  def annotate(self, prompts, a, b) -> np.ndarray:
    """P(a is preferred) of texts, e.g. "0 2 1": for `feedback.from_batch`."""
    del prompts
    with jax.enable_x64(True):
      ids = lambda texts: jnp.array(
        [[int(t) for t in x.split()] for x in texts]
      )
      pair = jax.vmap(lambda x, y: self.prefer(x[None], y[None])[0, 0])
      return np.asarray(pair(ids(a), ids(b)))


def decode(ids: Any) -> str:
  """Token ids of a response as the text that `annotate` reads."""
  return " ".join(str(int(i)) for i in ids)


@in_float64
def win_rates(
  game: SequenceGame, log_policy: Array, *, rows: int = 1024
) -> Array:
  """P(y > policy) of every response, without the matrix of preferences.

  Args:
    game: of N responses; time grows with N^2, memory with rows * N.
    log_policy: [N] nats.
    rows: responses at a time.

  Returns:
    [N].
  """
  every = jnp.asarray(sequences(game.vocab_size, game.length))
  policy = jnp.exp(jnp.asarray(log_policy, jnp.float64))
  win_rate = lambda row: game.prefer(row[None], every)[0] @ policy
  return jax.jit(lambda x: jax.lax.map(win_rate, x, batch_size=rows))(every)


def expected_pair_loss(
  loss: Callable[..., Array],
  logits: Array,
  game: SequenceGame,
  log_sampler: Array,
  *,
  soft: bool,
) -> Array:
  """E loss(y, y') of two independent samples, exactly; differentiate it.

  Args:
    loss: on pairs, of the log-probs of policy and reference and, if soft, the
      preference; hyperparameters bound.
    logits: [prefixes, V] of the policy.
    game: with `preferences()` of a size that fits.
    log_sampler: [N] who draws both responses; a constant.
    soft: give the loss the preference. If not, the pair is ordered by one
      Bernoulli draw of it, and the expectation is over that draw too.

  Returns:
    [] the expectation, in the precision of the logits.
  """
  logps, preferences = log_probs(logits, game.length), game.preferences()
  weights = _constant(log_sampler)
  weights = weights[:, None] * weights[None]
  first, second = jnp.indices(weights.shape).reshape(2, -1)
  arrays = {
    "chosen_logps": logps[first],
    "rejected_logps": logps[second],
    "ref_chosen_logps": game.log_reference[first],
    "ref_rejected_logps": game.log_reference[second],
    "preference": preferences.reshape(-1),
  }
  # Both draws have one law: (y, y') with y' preferred is (y', y) with y' so.
  weights = weights if soft else 2 * weights * preferences
  return jnp.sum(weights.reshape(-1) * _call(loss, arrays))


def expected_response_loss(
  loss: Callable[..., Array],
  logits: Array,
  game: SequenceGame,
  log_sampler: Array,
  log_opponent: Array,
) -> Array:
  """E loss(y, P(y > opponent)) of one sample's tokens; differentiate it.

  Exact for a loss that is linear in the preference: then the expectation over
  the opponent's sample is the loss of its win rate.

  Args:
    loss: on tokens, of the log-probs of policy and reference, the preference
      and the mask; hyperparameters bound.
    logits: [prefixes, V] of the policy.
    game: its preferences.
    log_sampler: [N] who draws y; a constant.
    log_opponent: [N] who draws the response that y is compared with; a
      constant.

  Returns:
    [] the expectation, in the precision of the logits.
  """
  token_logps = token_log_probs(logits, game.length)
  reference = table_of(game.log_reference, game.vocab_size)
  arrays = {
    "token_logps": token_logps,
    "ref_token_logps": token_log_probs(reference, game.length),
    "preference": game.preferences() @ _constant(log_opponent),
    "mask": jnp.ones(token_logps.shape, bool),
  }
  return jnp.sum(_constant(log_sampler) * _call(loss, arrays))


def _constant(log_policy: Array) -> Array:
  return jax.lax.stop_gradient(jnp.exp(log_policy))


def _call(loss: Callable[..., Array], arrays: Mapping[str, Array]) -> Array:
  return loss(*(arrays[name] for name in array_parameters(loss)))


@in_float64
def cyclic_game() -> SequenceGame:
  """27 responses of three tokens whose preferences go in a circle.

  With c(y) the counts of the tokens and q(y) the number of changes of token,
  logit P(y > y') = .5 cyc(c(y), c(y')) + .3 (q(y) - q(y')), where cyc(a, b) =
  a0 b1 - a1 b0 + a1 b2 - a2 b1 + a2 b0 - a0 b2. The reference likes token 0
  (+.5) and to repeat the last token (+1).
  """

  def features(y):
    counts = jnp.stack([(y == i).sum(-1) for i in range(3)], -1)
    changes = (y[:, 1:] != y[:, :-1]).sum(-1)
    return counts.astype(jnp.float64), changes.astype(jnp.float64)

  def prefer(a, b):
    (a, p), (b, q) = features(a), features(b)
    turn = jnp.roll(b, -1, -1) - jnp.roll(b, 1, -1)
    return jax.nn.sigmoid(0.5 * (a @ turn.T) + 0.3 * (p[:, None] - q[None]))

  last = np.array([-1, *(np.arange(1, prefixes(3, 3)) - 1) % 3])
  table = 0.5 * (np.arange(3) == 0) + 1.0 * (np.arange(3) == last[:, None])
  return SequenceGame(3, 3, log_probs(jnp.asarray(table), 3), prefer)
