"""Views of encoded records as another kind, for losses that take that kind.

A row made from a part of a record adds the part to its source, so that sources
stay different.
"""

from collections.abc import Sequence

import numpy as np

from jalign.data.encode import EncodedPair
from jalign.data.labelled import EncodedBinary, EncodedList
from jalign.data.sequences import EncodedSequence


def pairs_as_binary(pairs: Sequence[EncodedPair]) -> list[EncodedBinary]:
  """Two records per pair: chosen as desirable, rejected as not desirable."""
  return [
    EncodedBinary(
      prompt=pair.prompt,
      response=response,
      desirable=side == "chosen",
      source=f"{pair.source}#{side}",
    )
    for pair in pairs
    for side, response in (
      ("chosen", pair.chosen),
      ("rejected", pair.rejected),
    )
  ]


def pairs_as_lists(pairs: Sequence[EncodedPair]) -> list[EncodedList]:
  """Each pair as a list of two with scores 1 and 0."""
  return [
    EncodedList(
      prompt=pair.prompt,
      responses=(pair.chosen, pair.rejected),
      scores=np.array([1, 0], np.float32),
      source=pair.source,
    )
    for pair in pairs
  ]


def lists_as_sequences(lists: Sequence[EncodedList]) -> list[EncodedSequence]:
  """Each response as a sequence of its own, with its score as the reward.

  The sequence's value is the mean of the list's scores. It estimates, from the
  responses at hand, the expected reward under the policy that wrote them.
  """
  return [
    EncodedSequence(
      ids=np.concatenate([ranked.prompt, response]),
      mask=np.arange(len(ranked.prompt) + len(response)) >= len(ranked.prompt),
      source=f"{ranked.source}#{number}",
      reward=float(score),
      value=float(ranked.scores.mean()),
    )
    for ranked in lists
    for number, (response, score) in enumerate(
      zip(ranked.responses, ranked.scores), 1
    )
  ]
