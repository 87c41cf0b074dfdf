"""Games over token sequences that are small enough to enumerate.

With V tokens and responses of L tokens there are N = V^L responses. What
algorithms estimate from samples is computed here exactly: win rates, expected
losses and, by differentiating these losses, gradients. Policies are tables of
jalign.games.tables, whose `tabular` is a `Model`, so that the decode loop, the
losses and the updates of language models run on these games unchanged.

Exact functions compute in float64, as those of jalign.games.matrix do.
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

# The matrix [N, N] is refused for more responses than these, for its size.
_DENSE = 8192


class SequenceGame(NamedTuple):
  """A game whose actions are token sequences.

  Attributes:
    vocab_size: V.
    length: L, the length of every response; there is no end of sequence.
    log_reference: [N] log-probs (nats) of the responses under the reference.
    prefer: `(a [A, L], b [B, L]) -> [A, B]` P(a is preferred to b), where a and
      b are token ids.
  """

  vocab_size: int
  length: int
  log_reference: Array
  prefer: Callable[[Array, Array], Array]

  @in_float64
  def preferences(self) -> Array:
    """[N, N] P(row is preferred), for the functions of jalign.games.matrix.

    Raises:
      UserError: there are more than 8,192 responses, for which the matrix is
        too large; use `win_rates`.
    """
    rows = sequences(self.vocab_size, self.length)
    if len(rows) > _DENSE:
      raise UserError(
        f"the matrix of {len(rows):,} responses takes"
        f" {8 * len(rows) ** 2 / 1e9:.1f} GB.",
        where="sequence_game.preferences",
        remedy="Use win_rates(game, log_policy), which never holds the matrix.",
      )
    return self.prefer(jnp.asarray(rows), jnp.asarray(rows))

  def annotate(self, prompts, a, b) -> np.ndarray:
    """P(a is preferred) of texts such as "0 2 1", for `feedback.from_batch`."""
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
  """P(y > policy) of every response y, without the matrix of preferences.

  Args:
    game: a game with N responses; time grows with N^2, memory with rows * N.
    log_policy: [N] log-probs (nats) of the responses.
    rows: number of responses that are compared at a time.

  Returns:
    [N] probabilities of winning.
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
  """The exact expectation of a loss on pairs of two independent samples.

  Its gradient by the logits is the exact expected gradient.

  Args:
    loss: a loss on pairs that takes log-probs under policy and reference and,
      if soft, the preference; hyperparameters are bound.
    logits: [prefixes, V] logits of the policy.
    game: a game of at most 8,192 responses.
    log_sampler: [N] log-probs (nats) of the policy that draws both responses; a
      constant.
    soft: whether to pass the preference to the loss. If not, each pair is
      ordered by one Bernoulli draw of the preference, and the expectation is
      over that draw too.

  Returns:
    [] the expectation, in the precision of the logits.

  Raises:
    UserError: the game has too many responses.
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
  # Both draws have the same distribution, so that the case of (y, y') with y'
  # preferred equals the case of (y', y) with the first preferred.
  weights = weights if soft else 2 * weights * preferences
  return jnp.sum(weights.reshape(-1) * _call(loss, arrays))


def expected_response_loss(
  loss: Callable[..., Array],
  logits: Array,
  game: SequenceGame,
  log_sampler: Array,
  log_opponent: Array,
) -> Array:
  """The exact expectation of a loss on one sample's tokens.

  The loss gets P(y > opponent) as the preference. This is exact for a loss that
  is linear in the preference: the expectation over the opponent's sample is
  then the loss of the win rate. Its gradient by the logits is the exact
  expected gradient.

  Args:
    loss: a loss on tokens that takes log-probs under policy and reference, the
      preference and the mask; hyperparameters are bound.
    logits: [prefixes, V] logits of the policy.
    game: a game of at most 8,192 responses.
    log_sampler: [N] log-probs (nats) of the policy that draws y; a constant.
    log_opponent: [N] log-probs (nats) of the policy that draws the response
      with which y is compared; a constant.

  Returns:
    [] the expectation, in the precision of the logits.

  Raises:
    UserError: the game has too many responses.
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
  """27 responses, of three tokens out of three, whose preferences are cyclic.

  With c(y) the counts of the tokens and q(y) how often neighbouring tokens
  differ, logit P(y > y') = 0.5 cyc(c(y), c(y')) + 0.3 (q(y) - q(y')), where
  cyc(a, b) = a0 b1 - a1 b0 + a1 b2 - a2 b1 + a2 b0 - a0 b2. The reference's
  logits are +0.5 for token 0 and +1 for repeating the last token.
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
