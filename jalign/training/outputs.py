"""What models give for a batch's rows: log-probs, states and scores.

`Outputs` gives them under the policy or the reference, computed or precomputed;
callers need not know which.
"""

import functools

import jax
import jax.numpy as jnp
from flax import struct

from jalign.errors import UserError
from jalign.logprobs import token_logprobs
from jalign.logprobs.candidates import candidate_logprobs
from jalign.models.heads import ScoreHead
from jalign.training import packed
from jalign.training.critic import missing_critic, token_values
from jalign.training.misuse import check_reference, missing_reference
from jalign.types import Array, Head, Model, Params, Sequences


class Nudge(struct.PyTreeNode):
  """A zero perturbation of rows; differentiating by it gives gradients per row.

  Attributes:
    logps: [R] added to each response's log-prob, in equal parts to those of its
      scored tokens.
    hidden: [R, T - 1, D] added to the states that predict tokens 1 .. T - 1;
      None if no gradient by the states is wanted.
  """

  logps: Array
  hidden: Array | None = None


class Outputs:
  """What the policy and the reference give for a batch's own rows.

  A nudge is added to everything that the policy gives for the batch's own rows,
  which are the rows of functions without a `sequences` argument.

  Args:
    model: functions of the policy and of the reference.
    params: the policy's parameters.
    sequences: the batch's own rows, R of them.
    names: names of the arrays that the loss takes.
    ref_params: the reference's parameters, or None.
    ref_logps: [R] the reference's log-probs, if they were precomputed.
    nudge: added to the own rows; None adds nothing.
    head: a score head and its parameters, if the policy has one.
    critic: parameters of a critic beside the policy, if there is one; see
      jalign.training.critic.
  """

  def __init__(
    self,
    model: Model,
    params: Params,
    sequences: Sequences,
    names: tuple[str, ...] = (),
    *,
    ref_params: Params | None = None,
    ref_logps: Array | None = None,
    nudge: Nudge | None = None,
    head: tuple[ScoreHead, Params] | None = None,
    critic: Params | None = None,
  ):
    self._model, self._params, self._ref_params = model, params, ref_params
    self._own, self._ref_logps = sequences, ref_logps
    self._names = names
    self._nudge = nudge
    self._score_head, self._critic = head, critic
    self.nudged_hidden: Array | None = None  # the states before the nudge
    self.needs_reference = any(name.startswith("ref_") for name in names)

  # --------------------------------------------------- the batch's own rows

  def hidden(self) -> Array:
    """[R, T - 1, D] states of the policy that predict tokens 1 .. T - 1."""
    hidden = packed.hidden_states(self._model, self._params, self._own)
    if self._nudge is None or self._nudge.hidden is None:
      return hidden
    if self._own.packed is not None:
      raise UserError(
        "states of packed rows can't be nudged.", where="sequences.packed"
      )
    self.nudged_hidden = hidden
    return hidden + self._nudge.hidden

  def tokens(self) -> Array:
    """[R, T - 1] log-probs of tokens 1 .. T - 1; 0 where they aren't scored."""
    if self._nudge is None or self._nudge.hidden is None:
      logps = packed.token_logps(self._model, self._params, self._own)
    else:
      logps = token_logprobs(
        self.hidden(), self._head(), self._targets(), mask=self._mask()
      )
    return self._nudged(logps)

  def sums(self) -> Array:
    """[R] log-probs of whole responses."""
    return jnp.sum(self.tokens(), -1)

  def ref_tokens(self) -> Array:
    """[R, T - 1] log-probs as in `tokens`, under the reference; constants."""
    return self._under_reference(self._own)

  def ref_sums(self) -> Array:
    """[R] log-probs as in `sums`, under the reference; a pass if not known."""
    if self._ref_logps is not None:
      return self._ref_logps
    return jnp.sum(self.ref_tokens(), -1)

  def tokens_and_candidates(self) -> tuple[Array, Array]:
    """`tokens`, and [R, T - 1, T - 1] log-probs of all of a row's own tokens.

    Candidates are no part of the response. So a nudge of the response's
    log-prob leaves them as they are, while a nudge of the states moves them.
    """
    hidden, head, targets = self.hidden(), self._head(), self._targets()
    logps = token_logprobs(hidden, head, targets)
    candidates = candidate_logprobs(hidden, head, targets, logps)
    return self._nudged(jnp.where(self._mask(), logps, 0.0)), candidates

  def collisions(self) -> Array:
    """[R] sums over the response's tokens of log sum_v pi(v)^2; constants."""
    hidden = jax.lax.stop_gradient(self.hidden())
    head = jax.lax.stop_gradient(self._head())
    # z - LSE(z) and 2 z - LSE(2 z) of the targets give LSE(2 z) - 2 LSE(z).
    logps = functools.partial(token_logprobs, mask=self._mask())
    once = logps(hidden, head, self._targets())
    twice = logps(hidden, _doubled(head), self._targets())
    return jnp.sum(2 * once - twice, -1)

  def features(self) -> Array:
    """[R, D] states of the rows' last tokens, which score heads read.

    Raises:
      UserError: there is a nudge, but scores don't come from log-probs.
    """
    self._refuse_nudge()
    return packed.last_states(self._model, self._params, self._own)

  def features_and_prompts(self) -> tuple[Array, Array]:
    """`features`, and [R, D] states of the last tokens before the responses.

    Raises:
      UserError: as in `features`.
    """
    self._refuse_nudge()
    starts = jnp.argmax(self._own.mask, -1)
    ends = jnp.stack([self._own.lengths - 1, starts - 1], -1)
    states = packed.states_at(self._model, self._params, self._own, ends)
    return states[:, 0], states[:, 1]

  def features_and_sums(self) -> tuple[Array, Array]:
    """`features` and `sums`, from one pass through the model.

    Raises:
      UserError: as in `features`.
    """
    self._refuse_nudge()
    own = self._model, self._params, self._own
    features, logps = packed.states_and_logps(*own)
    return features, jnp.sum(logps, -1)

  def token_values(self) -> Array:
    """[R, T - 1] the critic's value before each of the tokens 1 .. T - 1.

    Raises:
      UserError: there is no critic.
    """
    if self._critic is None:
      raise missing_critic()
    return token_values(self._model, self._critic, self._own)

  def score_head(self) -> tuple[ScoreHead, Params]:
    """The policy's score head and its parameters."""
    assert self._score_head is not None  # make_objective saw to it
    return self._score_head

  # -------------------------------------------------------------- other rows

  def head(self) -> Head:
    """The policy's map from states to logits."""
    return self._head()

  def ref_states_of(self, sequences: Sequences) -> tuple[Array, Head]:
    """([R', T - 1, D] states, head) of the reference; constants."""
    params = self._reference()
    hidden = packed.hidden_states(self._model, params, sequences)
    return jax.lax.stop_gradient((hidden, self._model.head(params)))

  def sums_of(self, sequences: Sequences) -> Array:
    """[R'] log-probs of whole responses in rows that aren't the batch's own."""
    logps = packed.token_logps(self._model, self._params, sequences)
    return jnp.sum(logps, -1)

  def ref_sums_of(self, sequences: Sequences) -> Array:
    """[R'] log-probs as in `sums_of`, under the reference; constants."""
    return jnp.sum(self._under_reference(sequences), -1)

  def _nudged(self, logps: Array) -> Array:
    """Tokens' log-probs [R, T - 1], with their responses' nudges added."""
    if self._nudge is None:
      return logps
    share = self._nudge.logps / jnp.maximum(counts_of(self._own), 1)
    return logps + jnp.where(self._mask(), share[:, None], 0.0)

  def _refuse_nudge(self) -> None:
    if self._nudge is not None:
      raise UserError(
        "scores of a head have no gradient by a response's log-prob.",
        where="nudge",
      )

  def _head(self):
    return self._model.head(self._params)

  def _targets(self) -> Array:
    return self._own.tokens[:, 1:]

  def _mask(self) -> Array:
    return self._own.mask[:, 1:]

  def _under_reference(self, sequences: Sequences) -> Array:
    logps = packed.token_logps(self._model, self._reference(), sequences)
    return jax.lax.stop_gradient(logps)

  def _reference(self) -> Params:
    if self._ref_params is None:
      raise missing_reference(
        [n for n in self._names if n.startswith("ref_")] or self._names
      )
    check_reference(self._params, self._ref_params)
    return self._ref_params


def _doubled(head):
  """A head that gives twice the logits of `head`."""
  if head.dense is not None:
    dense = head.dense
    return head.replace(dense=lambda hidden: 2 * dense(hidden))
  cap = head.soft_cap
  return head.replace(
    scale=2 * head.scale, soft_cap=None if cap is None else 2 * cap
  )


def counts_of(sequences: Sequences) -> Array:
  """[R] float32 numbers of scored tokens."""
  return jnp.sum(sequences.mask[:, 1:], -1).astype(jnp.float32)
