"""Rewards of a response's segments, such as its sentences.

A segment is (end, reward): the number of characters of the response up to its
end, and what it earns. A segment begins where the one before ends.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jalign.errors import UserError
from jalign.feedback.answers import Answers
from jalign.feedback.judge import Judge, checked_scale, takes_row
from jalign.feedback.values import describe, number

Segment = tuple[int, float]


def from_segments(
  segments: Callable[..., Sequence[Segment]],
  *,
  scale: float = 1.0,
  where: str = "annotator",
) -> Judge:
  """Makes a judge from a function of one response that gives its segments.

  The reward of the response is the sum.

  Args:
    segments: `(prompt, response) -> [(end, reward), ...]`, or with the row of
      the data as a third parameter; see `from_reward`.
    scale: inverse temperature of the preferences, > 0.
    where: the function's name for errors.

  Raises:
    UserError: the scale is out of range.
  """
  count = 3 if takes_row(segments) else 2

  @functools.wraps(segments)
  def of_all(answers: Answers) -> list[list[Segment]]:
    columns = zip(*answers[:count], strict=True)
    found = [segments(*arguments) for arguments in columns]
    return read_segments(found, answers.texts, where)

  def reward(answers: Answers) -> list[float]:
    return [math.fsum(r for _, r in each) for each in of_all(answers)]

  return Judge(reward=reward, scale=checked_scale(scale), segments=of_all)


def read_segments(
  found: Any, texts: Sequence[str], where: str = "annotator"
) -> list[list[Segment]]:
  """Checks what a function returned for N responses.

  Args:
    found: N lists of (end, reward).
    texts: the N responses.
    where: the function that gave the segments.

  Raises:
    UserError: these aren't such lists, ends don't rise or lie beyond the
      response, or a reward isn't finite.
  """
  if not isinstance(found, list | tuple) or len(found) != len(texts):
    raise UserError(
      f"gave {describe(found)}, not a list of segments for each of"
      f" {len(texts)} responses.",
      where=where,
    )
  return [
    read_one(each, text, where, f" for response {i}")
    for i, (each, text) in enumerate(zip(found, texts))
  ]


def read_one(given: Any, text: str, where: str, at: str = "") -> list[Segment]:
  """Checks one response's segments; arguments, errors as `read_segments`."""
  wanted = "a list of (end, reward)"
  if not isinstance(given, list | tuple):
    raise UserError(f"gave {describe(given)}{at}, not {wanted}.", where=where)
  read: list[Segment] = []
  for one in given:
    if not isinstance(one, list | tuple) or len(one) != 2:
      raise UserError(
        f"gave {describe(one)} as a segment{at}, not {wanted}.", where=where
      )
    end, reward = number(one[0], where), number(one[1], where)
    before = read[-1][0] if read else 0
    if end != int(end) or not before <= end <= len(text):
      raise UserError(
        f"gave a segment{at} that ends at character {end:g} of {len(text)},"
        f" after one that ends at {before}.",
        where=where,
        remedy="An end is the number of characters of the response up to it;"
        " ends don't fall.",
      )
    read.append((int(end), reward))
  return read


def weighted_segments(
  judges: Mapping[str, Judge], weights: Mapping[str, float]
) -> Callable[[Answers], list[list[Segment]]] | None:
  """The segments of several judges, with rewards times the judges' weights.

  None unless all judges of a weight give segments.
  """
  named = {name: judges[name].segments for name in weights}
  functions = {name: f for name, f in named.items() if f is not None}
  if len(functions) < len(named):
    return None

  def of_all(answers: Answers) -> list[list[Segment]]:
    found = [
      [
        [(end, weights[name] * reward) for end, reward in each]
        for each in read_segments(f(answers), answers.texts)
      ]
      for name, f in functions.items()
    ]
    return [
      sorted((s for each in of_one for s in each), key=lambda s: s[0])
      for of_one in zip(*found)
    ]

  return of_all


def places_of(
  ids: Sequence[int],
  ends: Sequence[int],
  text: str,
  decode: Callable[[Sequence[int]], str],
) -> list[int]:
  """For each segment, the index of the token with which the segment is said.

  That is the first token after which the decoded text begins with the text up
  to the segment's end. So the mapping needs no offsets from the tokenizer, and
  a word that is split in three is said with its third token.

  Args:
    ids: n >= 1 token ids of the response, maybe with a stop token at the end.
    ends: numbers of characters, which don't fall.
    text: the response.
    decode: `token ids -> text`.

  Returns:
    Indices below n; the last one where no prefix begins so.
  """
  places, at, said = [], 0, decode(ids[:1])
  for end in ends:
    while at + 1 < len(ids) and not (
      len(said) >= end and said[:end] == text[:end]
    ):
      at += 1
      said = decode(ids[: at + 1])
    places.append(at)
  return places
