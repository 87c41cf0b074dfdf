"""Sums of losses are losses: their signature is the union of the terms'."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex

from jalign.errors import UserError
from jalign.losses.signature import array_parameters, name_of
from jalign.types import Array


class Term(NamedTuple):
  """One term of a sum.

  Attributes:
    weight: of the term; may be traced.
    loss: arrays in, per-example losses out; hyperparameters bound.
    rename: the loss's array name -> the name under which the sum takes it,
      e.g. {"logps": "chosen_logps"} for the likelihood of the chosen.
  """

  weight: Any
  loss: Callable[..., Array]
  rename: Mapping[str, str] = {}


def weighted_sum(*terms: Term | tuple) -> Callable[..., Array]:
  """The loss sum_i weight_i * loss_i, per example.

  RPO (Liu et al. 2024, arXiv:2405.16436) is DPO plus the likelihood of the
  chosen response: no code, but

      weighted_sum(
        (1.0, functools.partial(dpo, beta=0.5)),
        Term(0.2, sft_avg, {"logps": "chosen_logps",
                            "lengths": "chosen_lengths"}),
      )

  The sum is divided by examples: a term that would by itself be divided by
  tokens is not.

  Args:
    *terms: `Term`s, or plain (weight, loss) tuples.

  Returns:
    A loss whose positional parameters are the terms' arrays, each once, in
    the order in which they first appear.

  Raises:
    UserError: there is no term, a term has no function, renames what it doesn't
      take, or gives two arrays one name.
  """
  parts = [Term(*term) for term in terms]
  if not parts:
    raise UserError("a weighted sum needs a term.")
  names: list[str] = []
  inputs: list[tuple[str, ...]] = []
  for part in parts:
    if not callable(part.loss):
      raise UserError(f"a term is (weight, loss); {part.loss!r} is no loss.")
    own = array_parameters(part.loss)
    unknown = set(part.rename) - set(own)
    if unknown:
      raise UserError(
        f"{name_of(part.loss)} takes {', '.join(own)}; it has no"
        f" {', '.join(sorted(unknown))} to rename."
      )
    inputs.append(tuple(part.rename.get(name, name) for name in own))
    if len(set(inputs[-1])) < len(own):
      raise UserError(
        f"two arrays of {name_of(part.loss)} have one name after renaming:"
        f" {', '.join(inputs[-1])}."
      )
    names += [name for name in inputs[-1] if name not in names]
  signature = inspect.Signature(
    [
      inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD)
      for name in names
    ]
  )

  def loss(*args: Array, **kwargs: Array) -> Array:
    given = signature.bind(*args, **kwargs).arguments
    values = [
      part.loss(*(given[name] for name in wanted))
      for part, wanted in zip(parts, inputs)
    ]
    chex.assert_equal_shape(values)
    weighted = [part.weight * value for part, value in zip(parts, values)]
    return sum(weighted[1:], weighted[0])

  loss.__name__ = " + ".join(name_of(part.loss) for part in parts)
  loss.__signature__ = signature  # type: ignore[attr-defined]
  return loss
