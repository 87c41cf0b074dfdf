"""PPO: a policy and a critic, with the switches of PPO-max as settings."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jalign.errors import UserError
from jalign.losses import advantages as estimates
from jalign.online.algorithm import Algorithm
from jalign.online.arrange import Judged
from jalign.online.carry import Carry, StepTaken
from jalign.online.draws import POLICY, REFERENCE
from jalign.online.importance import importance_weights
from jalign.online.judging import Needs
from jalign.online.running import Moments, adapted, merged, moments
from jalign.online.updates import Updates
from jalign.sharding import fetch
from jalign.types import Array, Params, SequenceBatch


def begin(
  params: Params, *, beta: float = 0.05, kl_target: float = 0.0
) -> dict[str, Any]:
  """The carry at first: the coefficient of the KL, and no rewards so far.

  Args:
    params: the trained parameters, of which nothing is kept.
    beta: weight of the token-level KL penalty at first, >= 0; above 0 where it
      is adapted, which multiplies it.
    kl_target: see `go_on`.

  Raises:
    UserError: a hyperparameter is out of range.
  """
  del params
  if beta < 0 or (kl_target and not beta):
    least = "above" if kl_target else "at least"
    raise UserError(f"{beta} must be {least} 0.", where="beta")
  return {"beta": beta, "rewards": Moments()}


def go_on(
  carry: dict[str, Any],
  taken: StepTaken,
  *,
  kl_target: float = 0.0,
  kl_horizon: float = 10_000.0,
) -> dict[str, Any]:
  """Adds the round's rewards, and adapts the coefficient if asked to.

  Args:
    carry: the carry of the round.
    taken: the step that was taken.
    kl_target: KL that the coefficient is adapted to, nats a response; 0 keeps
      the coefficient fixed.
    kl_horizon: responses over which the coefficient follows.

  Raises:
    UserError: a hyperparameter is out of range.
  """
  for name, value, valid in (
    ("kl_target", kl_target, kl_target >= 0),
    ("kl_horizon", kl_horizon, kl_horizon > 0),
  ):
    if not valid:
      raise UserError(f"{value} is out of range.", where=name)
  of = lambda name: taken.statistics[f"algorithm/{name}"]
  count = of("responses_count")
  now = Moments(count, of("reward_mean"), of("reward_variance"))
  coefficient = carry["beta"]
  if kl_target:
    coefficient = adapted(
      coefficient,
      taken.statistics["rollouts/kl_k1_nats"],
      count,
      target=kl_target,
      horizon=kl_horizon,
    )
  return {"beta": coefficient, "rewards": merged(carry["rewards"], now)}


def _rewards(judged: Judged) -> tuple[np.ndarray, np.ndarray]:
  """([R] rewards, [R] bool: which count) of a round's R = P K responses."""
  assert judged.rewards is not None  # the row needs rewards
  size = judged.rewards.shape[1]
  counted = np.repeat(judged.weights > 0, size)
  return judged.rewards.reshape(-1).astype(np.float32), counted


def measured(judged: Judged) -> dict[str, float]:
  """The coefficient of the KL, and moments of the round's rewards."""
  now = fetch(moments(*_rewards(judged)))
  return {
    "beta": float(fetch(judged.carry["beta"])),
    "responses_count": float(now.number),
    "reward_mean": float(now.mean),
    "reward_variance": float(now.variance),
  }


def normalised(
  rewards: Array,
  so_far: Moments,
  *,
  centre: bool,
  scale: bool,
  clip: float,
) -> Array:
  """Rewards in units of the rewards so far.

  Args:
    rewards: an array of any shape.
    so_far: moments of the rewards so far, these included.
    centre: whether the mean is subtracted.
    scale: whether they are divided by the standard deviation.
    clip: the largest size of what comes out; 0 for no limit.

  Raises:
    UserError: the clip is negative.
  """
  if clip < 0:
    raise UserError(f"{clip} must be >= 0.", where="clip_rewards")
  if centre:
    rewards = rewards - so_far.mean
  if scale:
    rewards = rewards / jnp.sqrt(so_far.variance + 1e-8)
  return jnp.clip(rewards, -clip, clip) if clip else rewards


class _How(NamedTuple):
  """The hyperparameters of `actor_and_critic`, under its names."""

  discount: float
  lam: float
  centre_rewards: bool
  scale_rewards: bool
  clip_rewards: float
  whiten: bool
  clip_advantages: float
  importance_cap: float
  importance_by_response: bool


class _Seen(NamedTuple):
  """The arrays of a round; R rows, under the names of `Judged`."""

  rewards: Any
  token_rewards: Any
  counted: Any
  old_token_logps: Array
  ref_token_logps: Array
  behaviour_logps: Array
  values: Array
  mask: Array


@functools.partial(jax.jit, static_argnames="how")
def _estimated(
  seen: _Seen, carry: dict[str, Any], how: _How
) -> tuple[Array, Array]:
  """(advantages, returns), [R, T - 1] each."""
  whole = seen.token_rewards is None
  rewards = normalised(
    seen.rewards if whole else seen.token_rewards,
    merged(carry["rewards"], moments(seen.rewards, seen.counted)),
    centre=how.centre_rewards,
    scale=how.scale_rewards,
    clip=how.clip_rewards,
  )
  mask = seen.mask & seen.counted[:, None]
  token_rewards = estimates.token_rewards(
    seen.old_token_logps,
    seen.ref_token_logps,
    rewards if whole else jnp.zeros_like(seen.rewards),
    mask,
    beta=carry["beta"],
  )
  if not whole:
    token_rewards += jnp.where(mask, rewards, 0.0)
  gained = estimates.gae(
    token_rewards, seen.values, mask, discount=how.discount, lam=how.lam
  )
  returns = jnp.where(mask, gained + seen.values, 0.0)
  if how.whiten:
    gained = estimates.whiten(gained, mask)
  if how.clip_advantages:
    gained = jnp.clip(gained, -how.clip_advantages, how.clip_advantages)
  if how.importance_cap:
    gained *= importance_weights(
      seen.old_token_logps,
      seen.behaviour_logps,
      mask,
      cap=how.importance_cap,
      by_response=how.importance_by_response,
    )
  return gained, returns


def actor_and_critic(
  judged: Judged,
  *,
  discount: float = 1.0,
  lam: float = 0.95,
  centre_rewards: bool = False,
  scale_rewards: bool = False,
  clip_rewards: float = 0.0,
  whiten: bool = False,
  clip_advantages: float = 0.0,
  importance_cap: float = 0.0,
  importance_by_response: bool = False,
) -> SequenceBatch:
  """Responses with their tokens' advantages, and the critic's targets.

  A response's reward, less a KL penalty on each token, is credited to tokens by
  generalised advantage estimation. PPO-max (Zheng et al. 2023,
  arXiv:2307.04964) is this with rewards that are centred, scaled and clipped at
  10; which further switches belong to it isn't established.

  Args:
    judged: the round, with values of a critic.
    discount: factor per token, in [0, 1].
    lam: decay of the errors' weights, in [0, 1].
    centre_rewards: whether the mean of the rewards so far is subtracted; not
      from rewards of segments, of which a response has several.
    scale_rewards: whether rewards are divided by the standard deviation of the
      rewards so far, these included.
    clip_rewards: the largest size of a reward after that, of a response or of
      a segment; 0 for no limit.
    whiten: whether the round's advantages get mean 0 and variance 1.
    clip_advantages: the largest size of an advantage; 0 for no limit.
    importance_cap: the largest importance weight, where the sampler doesn't
      draw from the policy itself; 0 for no weights. See `importance_weights`.
    importance_by_response: whether weights are those of whole responses.

  Raises:
    UserError: a hyperparameter is out of range.
  """
  for name, value, most in (
    ("discount", discount, 1.0),
    ("lam", lam, 1.0),
    ("clip_advantages", clip_advantages, math.inf),
    ("importance_cap", importance_cap, math.inf),
  ):
    if not 0 <= value <= most:
      within = ">= 0" if most == math.inf else "in [0, 1]"
      raise UserError(f"{value} must be {within}.", where=name)
  if importance_by_response and not importance_cap:
    raise UserError(
      "says how samples are weighed, but they aren't.",
      where="importance_by_response",
      remedy="Set importance_cap to the largest weight.",
    )
  if centre_rewards and judged.token_rewards is not None:
    raise UserError(
      "rewards of segments aren't centred: a mean would be subtracted for each"
      " segment, and lengths would count.",
      where="centre_rewards",
      remedy="Set it to False.",
    )
  values = judged.values
  assert values is not None  # the row trains a critic
  rewards, counted = _rewards(judged)
  advantages, returns = _estimated(
    _Seen(
      rewards,
      judged.token_rewards,
      counted,
      judged.old_token_logps,
      judged.ref_token_logps,
      judged.behaviour_logps,
      values,
      judged.mask,
    ),
    judged.carry,
    _How(
      discount,
      lam,
      centre_rewards,
      scale_rewards,
      clip_rewards,
      whiten,
      clip_advantages,
      importance_cap,
      importance_by_response,
    ),
  )
  size = len(rewards) // len(judged.weights)
  return SequenceBatch(
    judged.rollout.sequences,
    jnp.asarray(np.repeat(judged.weights, size)),
    old_token_logps=judged.old_token_logps,
    advantages=advantages,
    old_token_values=values,
    returns=returns,
  )


PPO = Algorithm(
  (POLICY,),
  Needs(reward=True),
  actor_and_critic,
  "ppo",
  "arXiv:1707.06347",
  Updates(passes=4, minibatches=2),
  measure=measured,
  scored=(REFERENCE,),
  carry=Carry(begin, go_on),
  samples=(1, None),
  critic=True,
  about="clipped policy gradient with a critic, GAE and a KL penalty per token",
)

ROWS = {
  "ppo": PPO,
  "ppo_segments": PPO._replace(
    needs=Needs(reward=True, segments=True),
    paper="arXiv:2306.01693",
    about="PPO with a reward for each segment of a response, at its last token",
  ),
}
