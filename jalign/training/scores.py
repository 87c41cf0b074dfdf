"""Log-probs of a batch's rows, and where they come from.

`Scores` gives them under the policy or under the reference, computed or known;
what asks need not know.
"""

import functools

import jax
import jax.numpy as jnp
from flax import struct

from jalign.errors import UserError
from jalign.logprobs import token_logprobs
from jalign.training import packed
from jalign.training.misuse import check_reference, missing_reference
from jalign.types import Array, Model, Params, Sequences


class Nudge(struct.PyTreeNode):
  """Zeros that are added to a batch's rows: gradients of a loss by row.

  Attributes:
    logps: [R] to each response's log-prob.
    hidden: [R, T - 1, D] to the states that predict tokens 1 .. T - 1; None
      for no such gradient.
  """

  logps: Array
  hidden: Array | None = None


class Scores:
  """Log-probs of a batch's rows under the policy and under the reference.

  Args:
    model: functions of both.
    params: the policy's.
    ref_params: the reference's, or None.
    ref_logps: [R] the reference's log-probs, where they were precomputed.
    names: arrays that the loss takes.
    nudged: (rows, nudge) of the rows that are nudged; None for none.
  """

  def __init__(
    self,
    model: Model,
    params: Params,
    ref_params: Params | None,
    ref_logps: Array | None,
    names: tuple[str, ...],
    nudged: tuple[Sequences, Nudge] | None = None,
  ):
    self._model, self._params, self._ref_params = model, params, ref_params
    self._ref_logps = ref_logps
    self._names = names
    self._nudged = nudged
    self.nudged_hidden: Array | None = None  # what the nudge was added to
    self.needs_reference = any(name.startswith("ref_") for name in names)

  def hidden(self, sequences: Sequences) -> Array:
    """[R, T - 1, D] states of the policy that predict tokens 1 .. T - 1."""
    return packed.hidden_states(self._model, self._params, sequences)

  def head(self):
    """The policy's head."""
    return self._model.head(self._params)

  def tokens(self, sequences: Sequences, reference: bool = False) -> Array:
    """[R, T - 1] log-probs of tokens 1 .. T - 1; 0 where they aren't scored."""
    if not reference and self._nudged and sequences is self._nudged[0]:
      return self._nudge(*self._nudged)
    params = self._reference() if reference else self._params
    logps = packed.token_logps(self._model, params, sequences)
    return jax.lax.stop_gradient(logps) if reference else logps

  def sums(self, sequences: Sequences) -> Array:
    """[R] log-probs of whole responses under the policy."""
    return jnp.sum(self.tokens(sequences), -1)

  def ref_sums(self, sequences: Sequences) -> Array:
    """[R] the same under the reference: the batch's own, or a pass."""
    if self._ref_logps is not None:
      return self._ref_logps
    return jnp.sum(self.tokens(sequences, reference=True), -1)

  def collisions(self, sequences: Sequences) -> Array:
    """[R] sums over the response of log sum_v pi(v)^2; a constant."""
    hidden = jax.lax.stop_gradient(self.hidden(sequences))
    head = jax.lax.stop_gradient(self.head())
    targets = sequences.tokens[:, 1:]
    # z - LSE(z) and 2 z - LSE(2 z) of the targets give LSE(2 z) - 2 LSE(z).
    logps = functools.partial(token_logprobs, mask=sequences.mask[:, 1:])
    once = logps(hidden, head, targets)
    twice = logps(hidden, _doubled(head), targets)
    return jnp.sum(2 * once - twice, -1)

  def _nudge(self, sequences: Sequences, nudge: Nudge) -> Array:
    """Log-probs as `tokens` gives them, with the nudge added."""
    mask = sequences.mask[:, 1:]
    if nudge.hidden is None:
      logps = packed.token_logps(self._model, self._params, sequences)
    else:
      if sequences.packed is not None:
        raise UserError(
          "states of packed rows can't be nudged.", where="sequences.packed"
        )
      self.nudged_hidden = self.hidden(sequences)
      logps = token_logprobs(
        self.nudged_hidden + nudge.hidden,
        self.head(),
        sequences.tokens[:, 1:],
        mask=mask,
      )
    each = nudge.logps / jnp.maximum(counts_of(sequences), 1)
    return logps + jnp.where(mask, each[:, None], 0.0)

  def _reference(self) -> Params:
    if self._ref_params is None:
      raise missing_reference(n for n in self._names if n.startswith("ref_"))
    check_reference(self._params, self._ref_params)
    return self._ref_params


def _doubled(head):
  """The head that gives twice the logits."""
  if head.dense is not None:
    dense = head.dense
    return head.replace(dense=lambda hidden: 2 * dense(hidden))
  cap = head.soft_cap
  return head.replace(
    scale=2 * head.scale, soft_cap=None if cap is None else 2 * cap
  )


def counts_of(sequences: Sequences) -> Array:
  """[R] float32 scored tokens."""
  return jnp.sum(sequences.mask[:, 1:], -1).astype(jnp.float32)
