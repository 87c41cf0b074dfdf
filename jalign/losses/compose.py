"""Weighted sums of losses, which are losses too.

The signature of a sum is the union of its terms' signatures.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex

from jalign.errors import UserError
from jalign.losses.catalogue import Entry, entry_of, resolve
from jalign.losses.signature import array_parameters, name_of
from jalign.types import Array

# In a sum with losses on pairs, or on scores of pairs, a loss on single
# responses is applied to the chosen responses. These map the names of its
# arrays, and of the count that it is divided by, to their names in such a
# batch.
_OF_CHOSEN = {
  "logps": "chosen_logps",
  "ref_logps": "ref_chosen_logps",
  "lengths": "chosen_lengths",
  "rewards": "chosen_scores",
}
_COUNT_OF_CHOSEN = {"tokens": "chosen_tokens"}


class Term(NamedTuple):
  """One term of a sum.

  Attributes:
    name: name of the loss, for metrics.
    weight: weight of the term; may be traced.
    loss: takes arrays and returns per-example losses.
    arrays: the sum's names of the loss's arrays, in the loss's order.
    denominator: the count that divides the term's sum over a batch:
      "examples", "tokens" or "chosen_tokens".
  """

  name: str
  weight: Any
  loss: Callable[..., Array]
  arrays: tuple[str, ...]
  denominator: str


class WeightedSum:
  """A loss that is a weighted sum of losses, made by `weighted_sum`.

  Attributes:
    terms: the `Term`s of the sum.
    entry: the sum's `Entry`, such as CATALOGUE holds for other losses.
  """

  def __init__(self, terms: tuple[Term, ...], batch: str, coupled: bool):
    self.terms = terms
    self.__name__ = " + ".join(term.name for term in terms)
    denominators = {term.denominator for term in terms}
    self.entry = Entry(
      self,
      batch,
      paper="",
      denominator="tokens" if "examples" not in denominators else "examples",
      coupled=coupled,
    )
    names = dict.fromkeys(name for term in terms for name in term.arrays)
    self.__signature__ = inspect.Signature(
      [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        for name in names
      ]
    )

  def __call__(self, *args: Array, **kwargs: Array) -> Array:
    given = self.__signature__.bind(*args, **kwargs).arguments
    values = [
      term.loss(*(given[name] for name in term.arrays)) for term in self.terms
    ]
    chex.assert_equal_shape(values)
    weighted = [term.weight * value for term, value in zip(self.terms, values)]
    return sum(weighted[1:], weighted[0])


def weighted_sum(
  weights: Mapping[str | Callable[..., Array], Any],
  **settings: Mapping[str, Any],
) -> WeightedSum:
  """The loss sum_i weight_i * loss_i, per example.

  For example, the objective of iterative RPO is

      weighted_sum({"dpo": 1.0, "sft_avg": 1.0}, dpo={"beta": 0.5})

  In a sum with losses on pairs, or on a score head's outputs for pairs, a loss
  on single responses is applied to the chosen responses. In training each term
  keeps its own denominator: `sft` is a mean over the batch's chosen tokens and
  `dpo` a mean over the batch's pairs, whatever the lengths. When the sum is
  called as a function, it returns the weighted sum of its terms' per-example
  values.

  Args:
    weights: a loss -> its weight, which may be traced. A loss is a name of the
      CATALOGUE or a function (a partial, a sum, a function of your own).
    **settings: name of a term -> the term's hyperparameters.

  Returns:
    A loss whose positional parameters are the arrays of all terms, each array
    once, in the order in which they first appear.

  Raises:
    UserError: there is no term, a name or a hyperparameter is unknown, or the
      terms need different kinds of batches.
  """
  if not weights:
    raise UserError("a weighted sum needs a term.")
  idle = [name for name in settings if name not in weights]
  if idle:
    raise UserError(
      f"there are settings for {', '.join(idle)}, which the sum doesn't have.",
      where="loss",
      remedy=f"Its terms: {', '.join(map(_title, weights))}.",
    )
  bound = [
    (weight, *_loss(key, settings.get(key, {}) if isinstance(key, str) else {}))
    for key, weight in weights.items()
  ]
  kinds = {entry.batch for _, _, entry in bound}
  of_pairs = kinds - {"sequences"}
  mixed = len(kinds) == 2 and of_pairs in ({"pairs"}, {"scores"})
  batch = min(of_pairs) if mixed else min(kinds)
  if len(kinds) > 1 and not mixed:
    raise UserError(
      f"the sum's terms need batches of {' and '.join(sorted(kinds))}.",
      where="loss",
      remedy="Sum losses of one kind of batch, or losses on pairs (or on"
      " scores) and losses on single responses (sequences).",
    )
  terms: list[Term] = []
  for weight, loss, entry in bound:
    apart = entry.batch != batch
    renamed = _OF_CHOSEN if apart else {}
    counts = _COUNT_OF_CHOSEN if apart else {}
    if isinstance(loss, WeightedSum):
      parts = [p._replace(weight=weight * p.weight) for p in loss.terms]
    else:
      names = array_parameters(loss)
      parts = [Term(name_of(loss), weight, loss, names, entry.denominator)]
    for part in parts:
      unknown = [n for n in part.arrays if apart and n not in renamed]
      if unknown:
        raise UserError(
          f"{part.name} takes {', '.join(unknown)}, which a batch of {batch}"
          " doesn't have.",
          where="loss",
        )
      terms.append(
        part._replace(
          arrays=tuple(renamed.get(name, name) for name in part.arrays),
          denominator=counts.get(part.denominator, part.denominator),
        )
      )
  coupled = any(entry.coupled for _, _, entry in bound)
  return WeightedSum(tuple(terms), batch, coupled)


def terms_of(loss: Callable[..., Array], entry: Entry) -> tuple[Term, ...]:
  """The terms of a weighted sum; any other loss is one term of weight 1."""
  if isinstance(loss, WeightedSum):
    return loss.terms
  names = array_parameters(loss)
  return (Term(name_of(loss), 1.0, loss, names, entry.denominator),)


def _loss(
  key: str | Callable[..., Array], settings: Mapping[str, Any]
) -> tuple[Callable[..., Array], Entry]:
  if isinstance(key, str):
    return resolve(key, **settings)
  if not callable(key):
    raise UserError(f"{key!r} is neither a loss nor the name of a loss.")
  return key, entry_of(key)


def _title(key: str | Callable[..., Array]) -> str:
  return key if isinstance(key, str) else name_of(key)
