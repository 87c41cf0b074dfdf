"""From the loss section of a config to a function and what it needs."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from jalign import losses
from jalign.errors import UserError
from jalign.experiment.settings import StageSettings
from jalign.training.online import ALGORITHMS


class BoundLoss(NamedTuple):
  """A loss with its hyperparameters, as `make_objective` takes it.

  Attributes:
    function: arrays in, per-example losses out.
    batch: kind of batch.
    denominator: "examples" or "tokens".
    coupled: whether examples depend on each other.
    title: for reports, e.g. "dpo(beta=0.1)".
  """

  function: Callable[..., Any]
  batch: str
  denominator: str
  coupled: bool
  title: str


def bind(stage: StageSettings) -> BoundLoss:
  """The loss of a stage.

  `loss` is `{"name": "dpo", "beta": 0.1}`, or `{"terms": ({"name": "dpo",
  "weight": 1.0}, {"name": "sft_avg", "weight": 0.2, "on": "chosen"})}`: a
  weighted sum, where `on` points a likelihood loss at one response of a pair.

  Raises:
    UserError: an unknown loss or hyperparameter; names the key.
  """
  where = f"config.{stage.name}.loss"
  section = dict(stage.loss)
  if stage.algorithm:
    name = ALGORITHMS[stage.algorithm].loss
    if section.setdefault("name", name) != name:
      raise UserError(
        f"{section['name']!r} is not the loss of {stage.algorithm}.",
        where=f"{where}.name",
        remedy=f"Leave it out: it is {name!r}.",
      )
  if "terms" in section:
    if len(section) > 1:
      raise UserError(
        "takes nothing beside terms.", where=where, remedy="Name it or sum it."
      )
    return _sum(section["terms"], where)
  return _single(section, where)


def _single(section: Mapping[str, Any], where: str) -> BoundLoss:
  section = dict(section)
  name = section.pop("name", None)
  if not isinstance(name, str):
    raise UserError(
      "has no name.",
      where=where,
      remedy=f"Set {where}.name to one of: {', '.join(losses.CATALOGUE)}.",
    )
  try:
    function, entry = losses.resolve(name, **section)
  except UserError as e:
    raise UserError(e.problem, where=where, remedy=e.remedy) from e
  _try(function, where)
  settings = ", ".join(f"{k}={v}" for k, v in section.items())
  return BoundLoss(
    function,
    entry.batch,
    entry.denominator,
    entry.coupled,
    f"{name}({settings})",
  )


def _try(function, where):
  """Traces the loss once, so that a bad hyperparameter shows before a run."""
  row = jax.ShapeDtypeStruct((2,), "float32")
  try:
    jax.eval_shape(function, *(row for _ in losses.array_parameters(function)))
  except UserError as e:
    raise UserError(e.problem, where=where, remedy=e.remedy) from e


def _sum(terms, where: str) -> BoundLoss:
  bound, parts = [], []
  for i, term in enumerate(terms):
    term, at = dict(term), f"{where}.terms[{i}]"
    weight, on = term.pop("weight", 1.0), term.pop("on", "")
    loss = _single(term, at)
    rename = {}
    if on:
      if on not in ("chosen", "rejected") or loss.batch != "sequences":
        raise UserError(
          f"{on!r} must be 'chosen' or 'rejected', and the loss one of single"
          " responses.",
          where=f"{at}.on",
        )
      rename = {
        name: f"{on}_{name}" for name in losses.array_parameters(loss.function)
      }
    bound.append(loss._replace(batch="pairs" if on else loss.batch))
    parts.append(losses.Term(weight, loss.function, rename))
  kinds = {loss.batch for loss in bound}
  if len(kinds) != 1:
    raise UserError(
      f"its terms want batches of {' and '.join(sorted(kinds))}.",
      where=f"{where}.terms",
      remedy="Point likelihood terms at a response of the pair: on='chosen'.",
    )
  title = " + ".join(
    f"{p.weight} {loss.title}" for p, loss in zip(parts, bound)
  )
  return BoundLoss(
    losses.weighted_sum(*parts),
    kinds.pop(),
    "examples",
    any(loss.coupled for loss in bound),
    title,
  )
