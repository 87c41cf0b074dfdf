"""The record of a kind of batch, and what the kinds share.

Letters of axes as in jalign.types, and I: one response under each of I other
models; C: candidate tokens; Z: an embedding; 2: the two segments of a pair.
"""

import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from jalign.errors import UserError
from jalign.types import Array

Arrays = dict[str, Array]
Sums = dict[str, tuple[Array, Array]]  # name -> (sum, count), both []
Axes = Mapping[str, str]  # name -> axes, and "bool" where it isn't float

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
    length: tokens of an example's longest row.
    view: records -> examples; None where the records are the examples.
    options: `(examples of a part by its name, part) -> options of collate`
      that depend on the data. Parts are "train" and "eval".
    lacks: names that the kind gives, and these records don't.
    chosen_alone: whether, of a pair, the chosen response alone is in the
      batch.
    check: `(title of a loss, names that it takes, training examples)`, for
      what can't be right; raises UserError, its `where` a key of a stage.
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
  """A kind of batch: all that differs between it and the others.

  Attributes:
    name: of the kind, as `losses.Entry.batch` has it.
    about: what an example is, for people.
    gives: names that a batch can give to a loss, with their axes.
    arrays: `(outputs, batch, names) -> arrays`: what the names ask for, and no
      more than comes with it. None where no batch gives what its losses take.
    observe: `(arrays, weights [B]) -> Sums`: metrics beside the loss.
    counts: name -> `batch -> [B]`: what sums may be divided by beside the
      number of examples; "tokens", mostly.
    elsewhere: names that losses of the kind may take from somewhere else:
      other models, critics, samples.
    records: kind of encoded records -> how they become a batch.
    online: names, of those in `gives`, that no records give: what an online
      stage or a caller knows.
    precomputed: names of the reference's log-probs that a table, made before
      training, gives.
    head: name -> function of `jalign.models.ScoreHead` that it comes from;
      empty where arrays come from log-probs.
    several: whether an example has several responses to one prompt, next to
      each other: packed rows may hold the prompt once.
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
  several: bool = False
  paired: bool = False


def unread(kind: Kind, names: Iterable[str]) -> list[str]:
  """Those of the names that no records give to a batch of the kind."""
  return [n for n in names if n not in kind.gives or n in kind.online]


def optional(
  data: Any, names: Sequence[str], among: Sequence[str]
) -> dict[str, Any]:
  """The arrays, among those that a batch may hold, that a loss takes.

  Raises:
    UserError: the batch doesn't hold one.
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
  """(sum, count) of rows that count."""
  return (
    jnp.sum(jnp.where(weights > 0, values * weights, 0.0)),
    jnp.sum(weights),
  )


def wins(margin: Array) -> Array:
  """1 where a margin is positive, 1/2 where it is 0, else 0."""
  return jnp.where(margin > 0, 1.0, jnp.where(margin == 0, 0.5, 0.0))


def by_token(values: Array, mask: Array) -> Array:
  """[..., T] of each token, out of that or of one [...] for all of them.

  Args:
    values: with as many elements as `mask` [..., T], or as its rows.
    mask: [..., T].
  """
  return jnp.broadcast_to(values.reshape(*mask.shape[:-1], -1), mask.shape)
