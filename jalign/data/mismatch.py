"""Responses to other prompts: what the KL estimate of KTO is made of."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from jalign.data.labelled import EncodedBinary

_SPARE = 64  # prompts


def other_responses(
  examples: Sequence[EncodedBinary], spare: Sequence[EncodedBinary] = ()
) -> list[np.ndarray | None]:
  """For each example the response of one whose prompt is another.

  Examples of one prompt are put side by side, and each takes the response that
  lies as far on, around the end, as the most common prompt is common. So every
  response is taken once; where more than half of the examples have one prompt,
  the responses to other prompts are taken more often. Where all are different
  it is the next example's.

  Args:
    examples: of a batch.
    spare: examples of at least two prompts, whose responses are taken where
      all of the batch have one.

  Returns:
    A response each; None where none has another prompt.
  """
  groups: defaultdict[bytes, list[int]] = defaultdict(list)
  for i, example in enumerate(examples):
    groups[example.prompt.tobytes()].append(i)
  if len(groups) < 2:
    return [
      _of_another(example, spare, i) for i, example in enumerate(examples)
    ]
  others: list[np.ndarray | None] = [None] * len(examples)
  most = max(groups, key=lambda prompt: len(groups[prompt]))
  order = [i for members in groups.values() for i in members]
  size, count = len(groups[most]), len(order)
  if 2 * size <= count:
    pairs = [(i, order[(at + size) % count]) for at, i in enumerate(order)]
  else:
    common = groups[most]
    rare = [i for i in order if i not in set(common)]
    pairs = [(i, rare[at % len(rare)]) for at, i in enumerate(common)]
    pairs += [(i, common[at]) for at, i in enumerate(rare)]
  for i, other in pairs:
    others[i] = examples[other].response
  return others


def spare_responses(examples: Sequence[EncodedBinary]) -> list[EncodedBinary]:
  """One example of each prompt, of many prompts some from all over."""
  first: dict[bytes, EncodedBinary] = {}
  for example in examples:
    first.setdefault(example.prompt.tobytes(), example)
  firsts = list(first.values())
  return firsts[:: -(-len(firsts) // _SPARE) or 1]


def _of_another(
  example: EncodedBinary, spare: Sequence[EncodedBinary], start: int
) -> np.ndarray | None:
  for at in range(len(spare)):
    other = spare[(start + at) % len(spare)]
    if not np.array_equal(other.prompt, example.prompt):
      return other.response
  return None
