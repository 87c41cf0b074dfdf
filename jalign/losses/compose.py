"""Sums of losses are losses: their signature is the union of the terms'."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

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
    ValueError: there is no term, or a term renames what it doesn't take.
  """
  parts = [Term(*term) for term in terms]
  if not parts:
    raise ValueError("a weighted sum needs a term")
  names: list[str] = []
  inputs: list[tuple[str, ...]] = []
  for part in parts:
    own = array_parameters(part.loss)
    unknown = set(part.rename) - set(own)
    if unknown:
      raise ValueError(
        f"{name_of(part.loss)} takes {', '.join(own)}; it has no"
        f" {', '.join(sorted(unknown))} to rename"
      )
    inputs.append(tuple(part.rename.get(name, name) for name in own))
    names += [name for name in inputs[-1] if name not in names]

  def loss(*arrays: Array) -> Array:
    given = dict(zip(names, arrays, strict=True))
    values = [
      part.weight * part.loss(*(given[name] for name in wanted))
      for part, wanted in zip(parts, inputs)
    ]
    return sum(values[1:], values[0])

  loss.__name__ = " + ".join(name_of(part.loss) for part in parts)
  loss.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
      inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD)
      for name in names
    ]
  )
  return loss
