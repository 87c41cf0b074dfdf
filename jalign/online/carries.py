"""What carries are made of: an average, a snapshot, two phases of a step.

The carries are dictionaries of copies of the trained parameters. Keyword-only
arguments are hyperparameters of the algorithms that use the functions. Where a
low-rank change is trained, the copies are copies of that change alone, and an
average is the average of the change's factors.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jalign.errors import UserError
from jalign.online.carry import Carry, StepTaken
from jalign.online.draws import Cast, Draw
from jalign.types import Params

Kept = Mapping[str, Any]


# ------------------------------------------------------------------ an average


def begin_average(params: Params) -> Kept:
  """An average that starts at the parameters, in at least single precision.

  In half precision the small steps of an average would be rounded away.
  """
  widened = jax.tree.map(lambda x: x.astype(_wide(x.dtype)), params)
  return {"average": widened}


def next_average(
  carry: Kept, taken: StepTaken, *, decay: float = 0.999
) -> Kept:
  """Moves the average towards the new parameters by 1 - decay of the way.

  Args:
    carry: the carry of `begin_average`.
    taken: the step that was taken.
    decay: weight of the old average, in [0, 1); at 0 the average is the policy
      itself.

  Raises:
    UserError: decay is out of range.
  """
  if not 0 <= decay < 1:
    raise UserError(
      f"{decay!r} is not in [0, 1).",
      where="decay",
      remedy="Choose a number such as 0.999, or 0 for the policy itself.",
    )
  move = lambda old, new: old + (1 - decay) * (new.astype(old.dtype) - old)
  return {"average": jax.tree.map(move, carry["average"], taken.params)}


def of_average(cast: Cast) -> Params:
  """The averaged parameters, in the types of the policy's."""
  return jax.tree.map(
    lambda x, own: x.astype(own.dtype), cast.carry["average"], cast.policy
  )


AVERAGE = Draw("average", of_average)
AVERAGED = Carry(begin_average, next_average)


def _wide(dtype: Any) -> Any:
  return jnp.promote_types(dtype, jnp.float32)


# ------------------------------------------------------------------ a snapshot


def begin_iterate(params: Params) -> Kept:
  """The first iterate: the parameters that training starts from."""
  return {"iterate": params}


def next_iterate(carry: Kept, taken: StepTaken, *, every: int = 10) -> Kept:
  """The iterate, replaced by the policy after each `every` steps.

  Args:
    carry: the carry of `begin_iterate`.
    taken: the step that was taken.
    every: steps that an iterate serves, >= 1.

  Raises:
    UserError: `every` is no such integer.
  """
  check_steps("every", every)
  fresh = taken.step % every == 0
  return {"iterate": _where(fresh, taken.params, carry["iterate"])}


def of_iterate(cast: Cast) -> Params:
  """The iterate's parameters."""
  return cast.carry["iterate"]


def the_iterate(carry: Kept, start: Params) -> Params:
  """Takes the iterate as the reference."""
  del start
  return carry["iterate"]


ITERATE = Draw("iterate", of_iterate)
GREEDY_ITERATE = Draw("greedy_iterate", of_iterate, greedy=True)
ITERATED = Carry(begin_iterate, next_iterate)


# ------------------------------------------------------------------ two phases


def begin_phases(params: Params) -> Kept:
  """The first half step is taken from the start, against the start."""
  return {"anchor": params, "opponent": params, "half_way": jnp.bool_(False)}


def next_phase(carry: Kept, taken: StepTaken, *, inner: int = 8) -> Kept:
  """Goes from the half step to the full step, and on to the next half step.

  A half step of `inner` steps is taken from the anchor against the anchor, a
  full step of as many from the anchor against the half step's end. The full
  step's end is the next anchor.

  Args:
    carry: the carry of `begin_phases`.
    taken: the step that was taken.
    inner: steps of either phase, >= 1.

  Raises:
    UserError: `inner` is no such integer.
  """
  check_steps("inner", inner)
  half_way = taken.step % (2 * inner) == inner
  done = taken.step % (2 * inner) == 0
  return {
    "anchor": _where(done, taken.params, carry["anchor"]),
    "opponent": _where(half_way | done, taken.params, carry["opponent"]),
    "half_way": half_way,
  }


def next_of_two(carry: Kept, taken: StepTaken) -> Kept:
  """`next_phase` with phases of a single step: an extragradient."""
  return next_phase(carry, taken, inner=1)


def back_to_the_anchor(carry: Kept, params: Params) -> Params:
  """After a half step the anchor, else the parameters as they are."""
  return _where(carry["half_way"], carry["anchor"], params)


def of_opponent(cast: Cast) -> Params:
  """The parameters of the phase's opponent."""
  return cast.carry["opponent"]


def of_anchor(cast: Cast) -> Params:
  """The parameters that both phases start from."""
  return cast.carry["anchor"]


OPPONENT = Draw("opponent", of_opponent)
ANCHOR = Draw("anchor", of_anchor)
IN_PHASES = Carry(begin_phases, next_phase)
EXTRAGRADIENT = Carry(begin_phases, next_of_two)


def check_steps(name: str, steps: int) -> None:
  """Raises UserError unless a number of steps is an integer of at least 1."""
  if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
    raise UserError(
      f"{steps!r} is not a number of steps.",
      where=name,
      remedy="Choose an integer of at least 1.",
    )


def _where(flag: Any, new: Params, old: Params) -> Params:
  return jax.tree.map(lambda a, b: jnp.where(flag, a, b), new, old)
