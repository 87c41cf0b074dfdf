"""A critic beside the policy: a network of its own that values prefixes.

The trained parameters are then {"model": the policy's, "critic": {"model": ...,
"head": ...}}. The critic has the policy's architecture and a scalar head. What
samples, is evaluated and is given on is the policy alone.

Stiennon et al. 2020, "Learning to summarize from human feedback",
arXiv:2009.01325: policy and value function are separate networks.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jalign.errors import UserError
from jalign.models import heads
from jalign.training import packed
from jalign.training.optimizer import OptimizerConfig, make_optimizer
from jalign.training.trainable import (
  HEAD,
  MODEL,
  Trainable,
  has_head,
  with_head,
)
from jalign.types import Array, Model, Params, Sequences

CRITIC = "critic"  # beside the policy, which is MODEL


@dataclasses.dataclass(frozen=True)
class CriticConfig:
  """How the critic of an algorithm that has a critic begins and learns.

  Attributes:
    start: the reward model that the critic starts from, a run or a checkpoint
      with the policy's architecture and the head `scalar`; "" starts from what
      the policy starts from, with a head of zeros.
    learning_rate_scale: the critic's learning rate over the policy's, > 0.
    warmup_steps: the number of first steps in which only the critic learns.
  """

  start: str = ""
  learning_rate_scale: float = 1.0
  warmup_steps: int = 0

  def __post_init__(self):
    for name, valid in (
      ("learning_rate_scale", self.learning_rate_scale > 0),
      ("warmup_steps", self.warmup_steps >= 0),
    ):
      if not valid:
        raise UserError(
          f"{getattr(self, name)} is out of range.", where=f"critic.{name}"
        )


def has_critic(params: Any) -> bool:
  """Whether parameters are a policy's with those of a critic."""
  return isinstance(params, Mapping) and set(params) == {MODEL, CRITIC}


def policy_of(params: Params) -> Params:
  """The parameters of the policy, without those of a critic."""
  return params[MODEL] if has_critic(params) else params


def critic_of(params: Params) -> Params:
  """The parameters of the critic, {"model": ..., "head": ...}.

  Raises:
    UserError: there is no critic.
  """
  if not has_critic(params):
    raise missing_critic()
  return params[CRITIC]


def missing_critic() -> UserError:
  """The error for values of tokens where there is no critic."""
  return UserError(
    "values of tokens come from a critic, and there is none.",
    where="params",
    remedy=f"Train {{{MODEL!r}: the policy's parameters, {CRITIC!r}: the"
    " critic's}; a row of ALGORITHMS asks for that by critic=True.",
  )


def with_critic(part: Trainable, init: Callable[[Array], Params]) -> Trainable:
  """Trains a critic beside a policy, and the same part of both networks.

  Where a low-rank change is trained, both networks have a change of their own,
  and the critic's head is trained as well. Its `start` and `frozen` take a
  policy, from which the critic then starts as well; or {"model": the policy,
  "critic": a model with a head}, from which the critic starts. `whole` gives
  the policy alone.

  Args:
    part: the part of a network that is trained.
    init: `key -> parameters` of the critic's head.

  Returns:
    The way to divide a policy with a critic. Its `start` raises UserError for a
    critic whose parameters have other shapes than the policy's.
  """
  of_critic = with_head(part, init)

  def start(params, key):
    policy, critic = policy_of(params), params
    if has_critic(params):
      critic = params[CRITIC]
      _check_alike(policy, critic[MODEL] if has_head(critic) else critic)
    own = jax.random.fold_in(key, 2)
    return {
      MODEL: part.start(policy, key),
      CRITIC: of_critic.start(critic, own),
    }

  def frozen(params):
    critic = params[CRITIC] if has_critic(params) else params
    return {
      MODEL: part.frozen(policy_of(params)),
      CRITIC: of_critic.frozen(critic),
    }

  return Trainable(
    {MODEL: part.specs, CRITIC: of_critic.specs},
    start,
    frozen,
    join=lambda trained, frozen: {
      MODEL: part.join(trained[MODEL], frozen[MODEL]),
      CRITIC: of_critic.join(trained[CRITIC], frozen[CRITIC]),
    },
    whole=lambda params: part.whole(policy_of(params)),
    title=f"{part.title}, of the policy and of a critic" if part.title else "",
  )


def _check_alike(policy: Params, critic: Params) -> None:
  """Raises UserError unless a critic has the policy's architecture."""
  shapes = lambda tree: {
    jax.tree_util.keystr(path, simple=True, separator="/"): tuple(x.shape)
    for path, x in jax.tree_util.tree_leaves_with_path(tree)
  }
  ours, theirs = shapes(policy), shapes(critic)
  for name in sorted(ours.keys() | theirs.keys()):
    if ours.get(name) != theirs.get(name):
      told = lambda shape: "no such parameter" if shape is None else shape
      raise UserError(
        "the critic has another architecture than the policy:"
        f" {name} has {told(theirs.get(name))}, and the policy's has"
        f" {told(ours.get(name))}.",
        where="critic.start",
        remedy="Name a reward model that was trained from such a policy, or"
        " leave the key empty.",
      )


def token_values(model: Model, params: Params, sequences: Sequences) -> Array:
  """The critic's value before each token.

  Args:
    model: functions of the policy and of the critic.
    params: the critic's, {"model": ..., "head": ...}.
    sequences: R rows, packed or not.

  Returns:
    [R, T - 1] float32: V before the tokens 1 .. T - 1, which is V after the
    tokens 0 .. T - 2; 0 where a token isn't scored.
  """
  hidden = packed.hidden_states(model, params[MODEL], sequences)
  values = heads.values(params[HEAD], hidden)
  return jnp.where(sequences.mask[:, 1:], values, 0.0)


def optimizer_beside(
  c: OptimizerConfig, steps: int, critic: CriticConfig, per_step: int = 1
) -> optax.GradientTransformation:
  """The optimiser of a policy with a critic.

  The two networks are clipped by their own global norms, as by two optimisers:
  the size of the critic's errors doesn't shrink the policy's steps.

  Args:
    c: settings of both networks.
    steps: number of updates in all.
    critic: settings of the critic. Moments of the policy are gathered while
      only the critic learns.
    per_step: number of updates of a step.

  Raises:
    UserError: as in `make_optimizer`.
  """
  whole = dataclasses.replace(c, max_grad_norm=0.0)
  held = critic.warmup_steps * per_step
  return optax.chain(
    optax.stateless(lambda grads, _: _clipped(grads, c.max_grad_norm)),
    make_optimizer(whole, steps),
    optax.stateless(
      lambda updates, _: _of(CRITIC, updates, critic.learning_rate_scale)
    ),
    *([_policy_after(held)] if held else []),
  )


def _of(name: str, updates: Params, factor: Any) -> Params:
  """Updates of which those of one network are multiplied by a factor."""
  scaled = jax.tree.map(lambda x: (x * factor).astype(x.dtype), updates[name])
  return updates | {name: scaled}


def _clipped(grads: Params, most: float) -> Params:
  """Gradients of which each network's norm is at most `most`; 0 never clips."""
  if not most:
    return grads

  def clip(name):
    norm = optax.tree.norm(grads[name])
    return jnp.minimum(1.0, most / jnp.maximum(norm, 1e-30))

  factors = {name: clip(name) for name in (MODEL, CRITIC)}
  return functools.reduce(
    lambda tree, name: _of(name, tree, factors[name]), factors, grads
  )


def _policy_after(held: int) -> optax.GradientTransformation:
  """Drops the policy's updates until `held` updates have been made."""

  def update(updates, state, params=None):
    del params
    factor = jnp.float32(state.count >= held)
    return _of(MODEL, updates, factor), optax.ScaleByScheduleState(
      count=optax.safe_increment(state.count)
    )

  return optax.GradientTransformation(
    lambda params: optax.ScaleByScheduleState(count=jnp.int32(0)), update
  )
