"""Pairs prompts with responses to other prompts, for KTO's estimate of a KL."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from jalign.data.labelled import EncodedBinary

_SPARE = 64  # prompts from which spare responses are kept, at most


def other_responses(
  examples: Sequence[EncodedBinary], spare: Sequence[EncodedBinary] = ()
) -> list[np.ndarray | None]:
  """Finds for each example a response to another prompt.

  Examples of one prompt are put side by side. With m examples of the most
  common prompt, each example takes the response of the one m places further on,
  going round. So every response is taken once. If more than half of the
  examples have one prompt, responses to the other prompts are taken more often.
  If all prompts differ, each example takes the next one's response.

  Args:
    examples: the examples of a batch.
    spare: examples of at least two prompts, whose responses are taken if the
      whole batch has one prompt.

  Returns:
    A response [n] for each example; None where no example and no spare one has
    another prompt.
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
  """One example for each prompt, of 64 or fewer prompts spread evenly."""
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
