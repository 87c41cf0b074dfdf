"""Two algorithms without a paper, made of the parts of jalign.online."""

import jax
import jax.numpy as jnp

from jalign.errors import UserError
from jalign.losses import Entry
from jalign.online import (
  POLICY,
  REFERENCE,
  Algorithm,
  Carry,
  Draw,
  Needs,
  Updates,
)
from jalign.sharding import fetch
from jalign.types import ListBatch, RolloutBatch, SequenceBatch

K = 4


def scored_lists(judged):
  """Lists of all responses with their rewards."""
  return ListBatch(
    judged.rollout.sequences,
    jnp.asarray(judged.weights),
    jnp.asarray(judged.rewards, jnp.float32),
    jnp.ones(judged.rewards.shape, bool),
  )


def recorded_rollouts(judged, *, advantage_scale: float = 1.0):
  """Rollouts with recorded log-probs and leave-one-out advantages."""
  if advantage_scale <= 0:
    raise UserError(f"{advantage_scale} must be > 0.", where="advantage_scale")
  rewards = judged.rewards
  others = (rewards.sum(1, keepdims=True) - rewards) / (K - 1)
  return RolloutBatch(
    judged.rollout.sequences,
    jnp.asarray(judged.weights),
    jnp.asarray(rewards, jnp.float32),
    jnp.ones(rewards.shape, bool),
    judged.old_token_logps,
    jnp.asarray(advantage_scale * (rewards - others), jnp.float32),
  )


def clipped_ratios(
  token_logps, old_token_logps, advantages, mask, valid, *, clip: float = 0.2
):
  """The mean over K of surrogates with clipped ratios of whole responses."""
  del valid
  ratio = jnp.exp(jnp.sum(token_logps - old_token_logps, -1))
  advantage = jnp.sum(advantages * mask, -1) / jnp.sum(mask, -1)
  clipped = jnp.clip(ratio, 1 - clip, 1 + clip)
  return -jnp.mean(jnp.minimum(ratio * advantage, clipped * advantage), -1)


RLOO = Algorithm(
  (POLICY,) * K,
  Needs(reward=True),
  scored_lists,
  "rloo",
  "arXiv:2402.14740",
  Updates(passes=2, minibatches=2),
)
CLIPPED = RLOO._replace(
  arrange=recorded_rollouts,
  loss=Entry(clipped_ratios, "rollouts", "arXiv:1707.06347"),
)


def penalised_wins(judged):
  """The policy's responses, with P(win) - 1/2 less the carried KL penalty."""
  ratios = judged.old_token_logps - judged.ref_token_logps
  ratios, coefficient = fetch((ratios.sum(-1), judged.carry["coefficient"]))
  penalty = coefficient * ratios.reshape(-1, 2)[:, 0]
  return SequenceBatch(
    jax.tree.map(lambda x: x[0::2], judged.rollout.sequences),
    jnp.asarray(judged.weights),
    rewards=jnp.asarray(judged.preference[:, 0] - 0.5 - penalty),
  )


def spread_of_lengths(judged):
  """The largest length less the smallest, in tokens."""
  tokens = fetch(judged.rollout.sequences.mask.sum(-1))
  return {"length_spread": tokens.max() - tokens.min()}


def reinforce(logps, rewards):
  """The score-function surrogate `-r log pi(y)`."""
  return -rewards * logps


def begin(params, *, coefficient: float = 0.1):
  """The carry at first: the start is also the opponent and the reference."""
  return {
    "coefficient": coefficient,
    "spread": 0.0,
    "opponent": params,
    "reference": params,
  }


def go_on(carry, taken, *, target: float, every: int = 2, decay: float = 0.9):
  """Adapts the KL penalty, the reference, and at times the opponent.

  Args:
    carry: the carry of `begin`.
    taken: the step that was taken.
    target: KL to reach, in nats.
    every: steps between two opponents.
    decay: decay of the reference's moving average.
  """
  error = jnp.clip(
    taken.statistics["rollouts/kl_k1_nats"] / target - 1, -0.5, 0.5
  )
  fresh = taken.step % every == 0
  return {
    "coefficient": carry["coefficient"] * (1 + 0.2 * error),
    "spread": carry["spread"] + taken.statistics["algorithm/length_spread"],
    "opponent": jax.tree.map(
      lambda old, new: jnp.where(fresh, new, old),
      carry["opponent"],
      taken.params,
    ),
    "reference": jax.tree.map(
      lambda old, new: decay * old + (1 - decay) * new,
      carry["reference"],
      taken.params,
    ),
  }


ADAPTIVE = Algorithm(
  (POLICY, Draw("opponent", lambda cast: cast.carry["opponent"])),
  Needs(preference=((0, 1),)),
  penalised_wins,
  Entry(reinforce, "sequences", "arXiv:1909.08593"),
  "",
  measure=spread_of_lengths,
  carry=Carry(begin, go_on),
  reference=lambda carry, start: carry["reference"],
  scored=(REFERENCE,),
)
