"""Kinds of batch: the arrays that they give to losses, and their origin.

A kind is a `Kind` in a module of its own: names and axes of the arrays that its
losses may take, how they are computed from a batch, which metrics are observed,
what sums are divided by, and how records become batches. A new kind is a module
and a row of `KINDS`; a `Kind` of your own can stand wherever the name of a kind
can.
"""

from collections.abc import Mapping

from jalign.errors import UserError
from jalign.training.kinds.arrays import ERRORS
from jalign.training.kinds.distributions import DISTRIBUTIONS
from jalign.training.kinds.kind import (
  Arrays,
  Kind,
  Reading,
  Sums,
  mean,
  optional,
  referring,
  unread,
  wins,
)
from jalign.training.kinds.lists import LISTS, RANKED_SEGMENTS
from jalign.training.kinds.pairs import PAIRS, SEGMENTS
from jalign.training.kinds.raters import RATER_PAIRS, RATERS
from jalign.training.kinds.records import RECORDS, Records
from jalign.training.kinds.rollouts import ROLLOUTS
from jalign.training.kinds.scores import SCORES
from jalign.training.kinds.sequences import SEQUENCES, TOKENS
from jalign.training.kinds.unpaired import UNPAIRED

KINDS: Mapping[str, Kind] = {
  kind.name: kind
  for kind in (
    PAIRS,
    SEGMENTS,
    SEQUENCES,
    TOKENS,
    LISTS,
    RANKED_SEGMENTS,
    UNPAIRED,
    ROLLOUTS,
    SCORES,
    RATERS,
    RATER_PAIRS,
    DISTRIBUTIONS,
    ERRORS,
  )
}


def kind_of(batch: str | Kind) -> Kind:
  """The kind of a name; a `Kind` comes back as it is.

  Raises:
    UserError: no kind has the name, or no batch of the kind can be made.
  """
  kind = KINDS.get(batch) if isinstance(batch, str) else batch
  if kind is None or kind.arrays is None:
    known = [name for name, row in KINDS.items() if row.arrays is not None]
    raise UserError(
      f"batches of kind {batch if kind is None else kind.name!r} have no"
      " objective.",
      where="loss",
      remedy=f"Known kinds: {', '.join(known)}.",
    )
  return kind


def vocabulary(batch: str | Kind) -> dict[str, str]:
  """Names of arrays that losses of a kind may take -> their axes.

  The axes are followed by "bool" where the array is boolean. Arrays that a
  batch gives come first; the others come from elsewhere: other models, critics,
  samples.
  """
  kind = KINDS[batch] if isinstance(batch, str) else batch
  return {**kind.gives, **kind.elsewhere}


__all__ = [
  "DISTRIBUTIONS",
  "ERRORS",
  "KINDS",
  "LISTS",
  "PAIRS",
  "RANKED_SEGMENTS",
  "RATERS",
  "RATER_PAIRS",
  "RECORDS",
  "ROLLOUTS",
  "SCORES",
  "SEGMENTS",
  "SEQUENCES",
  "TOKENS",
  "UNPAIRED",
  "Arrays",
  "Kind",
  "Reading",
  "Records",
  "Sums",
  "kind_of",
  "mean",
  "optional",
  "referring",
  "unread",
  "vocabulary",
  "wins",
]
