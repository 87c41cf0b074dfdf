"""What log-probs say about preferences: rankings and thresholds.

Chen et al. 2024, "Preference Learning Algorithms Do Not Learn Preference
Rankings", arXiv:2405.19534; Lin et al. 2024, arXiv:2409.03650 (implicit and
explicit rewards).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jalign.errors import UserError
from jalign.evaluation.clustered import (
  Mean,
  clustered_mean,
  clustered_share,
)
from jalign.types import Array


def idealised_ranking(
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  agreement: Array,
  beta: float,
) -> Array:
  """[P] bool: whether the optimum of DPO ranks the pair as its label does.

  The optimum's log-odds are the reference's plus logit(agreement) / beta. If
  the reference ranks a pair wrongly by enough, perfect training leaves the
  ranking wrong. Chen et al. 2024, corollary 3.3.

  Args:
    ref_chosen_logps: [P] the reference's log-probs of chosen responses, nats.
    ref_rejected_logps: [P] its log-probs of rejected responses, nats.
    agreement: [P] P(chosen is preferred), inside (0, 1); for labels without
      ties the paper takes 1 - 1e-3.
    beta: temperature of DPO.
  """
  logit = jnp.log(agreement) - jnp.log1p(-agreement)
  return ref_chosen_logps - ref_rejected_logps + logit / beta > 0


def dpo_threshold(
  ref_chosen_logps: Array, ref_rejected_logps: Array, beta: float
) -> Array:
  """[P] the losses of DPO at which the policy's rankings of the pairs flip.

  The policy ranks the chosen response first if and only if the pair's loss is
  at most -log sigmoid(beta c), where c is the reference's log-odds for the
  rejected response. Chen et al. 2024, theorem 4.1.

  Args:
    ref_chosen_logps: [P] the reference's log-probs of chosen responses, nats.
    ref_rejected_logps: [P] its log-probs of rejected responses, nats.
    beta: temperature of DPO.
  """
  return -jax.nn.log_sigmoid(beta * (ref_rejected_logps - ref_chosen_logps))


def ipo_threshold(
  ref_chosen_logps: Array, ref_rejected_logps: Array, tau: float
) -> Array:
  """[P] the losses of IPO up to which pairs are certainly ranked as labelled.

  The loss is (c + 1 / (2 tau))^2, where c is the reference's log-odds for the
  chosen response. Where c is below -1 / (2 tau), a loss of 0 ranks the pair
  wrongly, and the threshold is -1: no loss suffices. Chen et al. 2024,
  proposition A.7.

  Args:
    ref_chosen_logps: [P] the reference's log-probs of chosen responses, nats.
    ref_rejected_logps: [P] its log-probs of rejected responses, nats.
    tau: regularisation of IPO.
  """
  gap = ref_chosen_logps - ref_rejected_logps + 1 / (2 * tau)
  return jnp.where(gap >= 0, jnp.square(gap), -1.0)


class RewardComparison(NamedTuple):
  """An implicit reward beside an explicit one on the same pairs.

  Attributes:
    implicit: accuracy of the implicit reward, in [0, 1]; ties count 1/2.
    explicit: accuracy of the explicit reward, in [0, 1]; ties count 1/2.
    difference: explicit minus implicit accuracy, pair by pair, so that its
      interval is that of paired comparisons.
    agreement: share of the pairs that both rewards rank alike; a pair that one
      of them ties counts half.
  """

  implicit: Mean
  explicit: Mean
  difference: Mean
  agreement: float


def compare_rewards(
  implicit_margins: ArrayLike,
  explicit_margins: ArrayLike,
  groups: Sequence[Any] | np.ndarray | None = None,
) -> RewardComparison:
  """Compares the generalisation of an implicit reward and of a reward model.

  Call it on held-out pairs of the training data, and again on pairs from
  another source: the second comparison is the telling one (Lin et al. 2024).

  Args:
    implicit_margins: [P] log pi/ref of the chosen response minus that of the
      rejected.
    explicit_margins: [P] score of the chosen response minus that of the
      rejected.
    groups: P clusters of the pairs, such as their prompts; by default each pair
      is its own.

  Raises:
    UserError: the numbers of pairs differ.
  """
  signs = [
    np.sign(np.asarray(x, np.float64))
    for x in (implicit_margins, explicit_margins)
  ]
  if signs[0].shape != signs[1].shape:
    raise UserError(
      f"there are {signs[0].shape} implicit and {signs[1].shape} explicit"
      " margins.",
      where="compare_rewards",
    )
  right = [0.5 + 0.5 * sign for sign in signs]
  return RewardComparison(
    clustered_share(right[0], groups),
    clustered_share(right[1], groups),
    clustered_mean(right[1] - right[0], groups),
    float(np.mean(0.5 + 0.5 * signs[0] * signs[1])),
  )
