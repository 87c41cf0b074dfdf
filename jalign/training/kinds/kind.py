"""The record of a kind of batch, and functions that kinds share.

Letters of axes are those of jalign.types, and: I, other models that each score
one response; C, candidate tokens; Z, an embedding; M, objectives; 2, the two
segments of a pair.
"""

import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from jalign.errors import UserError
from jalign.types import Array

Arrays = dict[str, Array]
Sums = dict[str, tuple[Array, Array]]  # name -> (sum, count), both []
Axes = Mapping[str, str]  # name -> axes, followed by "bool" where it is boolean

_NONE: Mapping[str, Any] = types.MappingProxyType({})


def _no_options(
  examples: Callable[[str], Sequence[Any]], part: str
) -> dict[str, Any]:
  del examples, part
  return {}


def _no_objection(
  title: str, names: Sequence[str], examples: Sequence[Any]
) -> None:
  del title, names, examples


class Reading(NamedTuple):
  """How encoded records of some kind become batches.

  Attributes:
    collate: `(examples, rows, length, *, pad_id, fill, **options) -> batch`;
      see `jalign.data.collate_pairs`.
    length: example -> tokens of its longest row.
    view: records -> examples; None if the records are the examples.
    options: `(function from a part's name to its examples, part) -> options of
      collate` that depend on the data. Parts are "train" and "eval".
    lacks: names of arrays that the kind gives, but not from these records.
    chosen_alone: whether only the chosen response of a pair is in the batch.
    check: `(title of a loss, names that it takes, training examples)`; raises
      UserError for what can't be right, its `where` a key of a stage.
  """

  collate: Callable[..., Any]
  length: Callable[[Any], int]
  view: Callable[[Sequence[Any]], list[Any]] | None = None
  options: Callable[[Callable[[str], Sequence[Any]], str], dict[str, Any]] = (
    _no_options
  )
  lacks: tuple[str, ...] = ()
  chosen_alone: bool = False
  check: Callable[[str, Sequence[str], Sequence[Any]], None] = _no_objection


class Kind(NamedTuple):
  """A kind of batch: everything that distinguishes it from other kinds.

  Attributes:
    name: name of the kind, as in `losses.Entry.batch`.
    about: what an example is, for readers.
    gives: names of arrays that a batch can give to a loss -> axes.
    arrays: `(outputs, batch, names) -> arrays`: the named arrays, and others
      only if they cost nothing more. None if no batch gives what losses of the
      kind take.
    observe: `(arrays, weights [B]) -> Sums`: metrics beside the loss.
    counts: name -> `batch -> [B]`: counts, mostly "tokens", that sums may be
      divided by instead of the number of examples.
    elsewhere: names of arrays that losses of the kind may take from somewhere
      else (other models, critics, samples) -> axes.
    records: kind of encoded records -> how they become a batch.
    online: names in `gives` that no records give, but an online stage or a
      caller.
    precomputed: names of the reference's log-probs that can be computed before
      training and kept in a table.
    head: name of an array -> function of `jalign.models.ScoreHead` that gives
      it; empty where arrays come from log-probs.
    of_head: names of further functions that a head of the kind has.
    head_settings: `training examples -> {setting of a head: its value}`, for
      settings that the data decide, such as the number of objectives.
    referenced: names in `gives` that take a pass through the reference, beside
      those that begin with "ref_".
    several: whether an example has several responses to one prompt, in adjacent
      rows; packed rows may then hold the prompt once.
    advice: how data comes to serve the kind, where data.convert isn't enough.
    paired: whether an example is two rows, the chosen and the rejected one.
  """

  name: str
  about: str
  gives: Axes = _NONE
  arrays: Callable[[Any, Any, tuple[str, ...]], Arrays] | None = None
  observe: Callable[[Arrays, Array], Sums] = lambda arrays, weights: {}
  counts: Mapping[str, Callable[[Any], Array]] = _NONE
  elsewhere: Axes = _NONE
  records: Mapping[str, Reading] = _NONE
  online: tuple[str, ...] = ()
  precomputed: tuple[str, ...] = ()
  head: Mapping[str, str] = _NONE
  of_head: tuple[str, ...] = ()
  head_settings: Callable[[Sequence[Any]], Mapping[str, int]] = (
    lambda examples: _NONE
  )
  referenced: tuple[str, ...] = ()
  several: bool = False
  advice: str = ""
  paired: bool = False


def referring(kind: Kind, names: Iterable[str]) -> list[str]:
  """Those of the names that take a pass through the reference."""
  return [n for n in names if n.startswith("ref_") or n in kind.referenced]


def unread(kind: Kind, names: Iterable[str]) -> list[str]:
  """Those of the names that no records give to a batch of the kind."""
  return [n for n in names if n not in kind.gives or n in kind.online]


def optional(
  data: Any, names: Sequence[str], among: Sequence[str]
) -> dict[str, Any]:
  """The arrays that a loss takes, out of those that a batch may hold.

  Args:
    data: the batch.
    names: names of the arrays that the loss takes.
    among: names of the arrays that the batch may hold.

  Raises:
    UserError: the loss takes an array that the batch doesn't hold.
  """
  arrays = {}
  for name in among:
    if name not in names:
      continue
    arrays[name] = getattr(data, name)
    if arrays[name] is None:
      raise UserError(
        f"the loss takes {name}, which the data doesn't hold.",
        where="loss",
        remedy=f"Give every record a {name!r} field, or choose another loss.",
      )
  return arrays


def mean(values: Array, weights: Array) -> tuple[Array, Array]:
  """(weighted sum, sum of weights); rows of weight 0 may hold anything."""
  return (
    jnp.sum(jnp.where(weights > 0, values * weights, 0.0)),
    jnp.sum(weights),
  )


def wins(margin: Array) -> Array:
  """1 where a margin is positive, 1/2 where it is 0, 0 where it is negative."""
  return jnp.where(margin > 0, 1.0, jnp.where(margin == 0, 0.5, 0.0))


def by_token(values: Array, mask: Array) -> Array:
  """[..., T] values of tokens, from such values or from one per row.

  Args:
    values: as many elements as `mask`, or one for each row [...] of it.
    mask: [..., T].
  """
  return jnp.broadcast_to(values.reshape(*mask.shape[:-1], -1), mask.shape)
