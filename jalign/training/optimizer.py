"""Makes optax chains from a few settings."""

import dataclasses

import jax
import optax

from jalign.errors import UserError, nearest
from jalign.training import moments
from jalign.types import Params

SCHEDULES = ("constant", "cosine", "linear")
# Endings of the names of parameters that weight decay leaves alone: norms,
# biases, and the magnitudes of DoRA.
UNDECAYED = ("norm", "bias", "bq", "bk", "bv", "bo", "scale", "magnitude")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """AdamW with clipping and a schedule.

  Attributes:
    learning_rate: peak of the schedule.
    schedule: "constant", "cosine" or "linear" decay after the warm-up.
    warmup_steps: updates of the linear rise from 0; a step of an online stage
      may be several updates.
    final_fraction: learning rate at the last update of a decay, as a fraction
      of the peak, in [0, 1].
    b1: decay of the first moment, in [0, 1). Use 0 for preference games, where
      momentum orbits the equilibrium.
    b2: decay of the second moment, in [0, 1).
    eps: constant added to the root of the second moment.
    weight_decay: decay of matrices and embeddings, not of norms and biases.
    max_grad_norm: global norm at which gradients are clipped; 0 never clips.
    moments: dtype of both moments, "float32" or "bfloat16". With bfloat16 an
      update computes in float32 and rounds what it keeps at random, so that the
      expectation stays; the moments take half the memory.
  """

  learning_rate: float = 1e-3
  schedule: str = "cosine"
  warmup_steps: int = 0
  final_fraction: float = 0.1
  b1: float = 0.9
  b2: float = 0.99
  eps: float = 1e-8
  weight_decay: float = 0.0
  max_grad_norm: float = 1.0
  moments: str = "float32"

  def __post_init__(self):
    for name, valid in (
      ("learning_rate", self.learning_rate > 0),
      ("warmup_steps", self.warmup_steps >= 0),
      ("final_fraction", 0 <= self.final_fraction <= 1),
      ("b1", 0 <= self.b1 < 1),
      ("b2", 0 <= self.b2 < 1),
      ("eps", self.eps > 0),
      ("weight_decay", self.weight_decay >= 0),
      ("max_grad_norm", self.max_grad_norm >= 0),
    ):
      if not valid:
        raise UserError(
          f"{getattr(self, name)} is out of range.", where=f"optimizer.{name}"
        )
    if self.moments not in moments.DTYPES:
      raise UserError(
        f"{self.moments!r} is not one of {', '.join(moments.DTYPES)}.",
        where="optimizer.moments",
      )


def make_schedule(c: OptimizerConfig, steps: int) -> optax.Schedule:
  """The learning rate as a function of the update.

  Args:
    c: the settings.
    steps: number of updates in all.

  Raises:
    UserError: the schedule is unknown, or the warm-up leaves no update.
  """
  if c.schedule not in SCHEDULES:
    raise UserError(
      f"unknown schedule {c.schedule!r}.",
      where="optimizer.schedule",
      remedy=nearest(c.schedule, SCHEDULES),
    )
  if c.warmup_steps and c.warmup_steps >= steps:
    raise UserError(
      f"{c.warmup_steps} updates of warm-up leave none of {steps} to train.",
      where="optimizer.warmup_steps",
      remedy="Warm up for fewer updates, or train for more.",
    )
  decaying = max(steps - c.warmup_steps, 1)
  peak, final = c.learning_rate, c.learning_rate * c.final_fraction
  decay = {
    "constant": lambda: optax.constant_schedule(peak),
    "cosine": lambda: optax.cosine_decay_schedule(
      peak, decaying, c.final_fraction
    ),
    "linear": lambda: optax.linear_schedule(peak, final, decaying),
  }[c.schedule]()
  if not c.warmup_steps:
    return decay
  # The first update already moves: update s has (s + 1) / warm-up of the peak.
  first = peak / c.warmup_steps
  rise = optax.linear_schedule(first, peak, max(c.warmup_steps - 1, 1))
  return optax.join_schedules([rise, decay], [c.warmup_steps])


def make_optimizer(
  c: OptimizerConfig, steps: int
) -> optax.GradientTransformation:
  """Makes the chain: clip by global norm, then AdamW under the schedule.

  Args:
    c: the settings.
    steps: number of updates in all.

  Raises:
    UserError: as in `make_schedule`.
  """
  clip = (
    optax.clip_by_global_norm(c.max_grad_norm)
    if c.max_grad_norm
    else optax.identity()
  )
  adamw = optax.chain(
    moments.scale_by_adam(c.b1, c.b2, c.eps, c.moments),
    optax.add_decayed_weights(c.weight_decay, decayed),
    optax.scale_by_learning_rate(make_schedule(c, steps)),
  )
  return optax.chain(clip, adamw)


def decayed(params: Params) -> Params:
  """A tree that is True for parameters that weight decay applies to."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: not str(getattr(path[-1], "key", "")).endswith(UNDECAYED),
    params,
  )
