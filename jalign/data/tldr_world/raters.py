"""Exact raters: P(a is preferred to b) as pure functions of attributes.

A rater maps `(Attributes, Attributes)` of any broadcastable shapes to
probabilities. `annotator` turns a rater into a function of texts, and
`jalign.feedback.from_batch` turns that into a judge. Configs name the ready
annotators at the end as `jalign.data.tldr_world:population` and the like.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jalign.data.tldr_world.language import read_post
from jalign.data.tldr_world.summary import (
  Attributes,
  attributes,
  read_summary,
)

Rater = Callable[[Attributes, Attributes], np.ndarray]
Annotator = Callable[[Sequence[str], Sequence[str], Sequence[str]], np.ndarray]

# Gold reward per unit of an attribute.
COVERAGE, HALLUCINATION, REDUNDANT, FILLER = 3.0, -1.5, -0.5, -0.3
WORD, UNGRAMMATICAL = -0.05, -3.0


def reward(of: Attributes) -> np.ndarray:
  """The gold reward of a summary.

  3 coverage - 1.5 hallucinations - 0.5 redundant - 0.3 filler - 0.05 words
  - 3 (1 - grammatical)

  Args:
    of: attributes of any shape.

  Returns:
    Rewards of that shape.
  """
  return (
    COVERAGE * of.coverage
    + HALLUCINATION * of.hallucinations
    + REDUNDANT * of.redundant
    + FILLER * of.filler
    + WORD * of.words
    + UNGRAMMATICAL * (1 - of.grammatical)
  )


def cost(of: Attributes) -> np.ndarray:
  """The gold cost: hallucinations, plus 1 if ungrammatical, minus 1/2.

  The cost is positive for a summary that misleads, and -1/2 for one that
  doesn't. Its sign is the safety label that cost models are trained on.
  """
  return of.hallucinations + (1 - of.grammatical) - 0.5


class Segment(NamedTuple):
  """The words [start, stop) of a summary, and the reward that they earn."""

  start: int
  stop: int
  reward: float


def segment_rewards(post: str, summary: str) -> list[Segment]:
  """The gold reward, clause by clause; the rewards sum to `reward`.

  The words after the first error form a last segment, which bears the error's
  penalty; an empty summary has one empty segment.
  """
  clauses, grammatical = read_summary(post, summary)
  share = COVERAGE / len(read_post(post).salient)
  segments = []
  for c in clauses:
    earned = share if c.new else REDUNDANT if c.true else HALLUCINATION
    earned += FILLER * c.filler + WORD * (c.stop - c.start)
    segments.append(Segment(c.start, c.stop, earned))
  if not grammatical:
    start = clauses[-1].stop if clauses else 0
    stop = len(summary.split())
    penalty = UNGRAMMATICAL + WORD * (stop - start)
    segments.append(Segment(start, stop, penalty))
  return segments


def bradley_terry(
  score: Callable[[Attributes], np.ndarray] = reward, *, scale: float = 2.0
) -> Rater:
  """A rater with P(a > b) = sigmoid(scale (score(a) - score(b))).

  Bradley and Terry 1952.
  """
  return lambda a, b: _sigmoid(scale * (score(a) - score(b)))


def length_biased(rater: Rater, *, bias: float = 0.2) -> Rater:
  """A rater who likes length: adds bias to the log-odds for each word."""

  def prefer(a: Attributes, b: Attributes) -> np.ndarray:
    p = np.clip(rater(a, b), 1e-12, 1 - 1e-12)
    return _sigmoid(np.log(p / (1 - p)) + bias * (a.words - b.words))

  return prefer


def noisy(rater: Rater, *, flip: float = 0.2) -> Rater:
  """A rater whose verdict is reversed with probability `flip`."""
  return lambda a, b: flip + (1 - 2 * flip) * rater(a, b)


def lexicographic(*criteria: tuple[str, int], tremble: float = 0.05) -> Rater:
  """A rater who decides by the first criterion on which the summaries differ.

  Args:
    *criteria: (attribute, +1 to prefer more or -1 to prefer less), the most
      important first.
    tremble: probability of the opposite verdict.

  Returns:
    A rater with P in {tremble, 1/2, 1 - tremble}.
  """

  def prefer(a: Attributes, b: Attributes) -> np.ndarray:
    verdict = np.zeros(np.broadcast(a.words, b.words).shape)
    for name, sign in reversed(criteria):
      # Shares such as 1/3 are compared without their rounding errors.
      difference = np.round(getattr(a, name) - getattr(b, name), 9)
      verdict = np.where(difference != 0, sign * np.sign(difference), verdict)
    return 0.5 + (0.5 - tremble) * verdict

  return prefer


def mixture(raters: Sequence[Rater], weights: Sequence[float]) -> Rater:
  """The mean preference of a population's groups, weighted by their sizes."""
  return lambda a, b: np.add.reduce(
    [w * rater(a, b) for w, rater in zip(weights, raters)]
  )


def annotator(rater: Rater) -> Annotator:
  """Turns a rater into `(posts, summaries, summaries) -> [N]` P(first wins)."""
  return lambda posts, a, b: rater(attributes(posts, a), attributes(posts, b))


def _sigmoid(x: np.ndarray) -> np.ndarray:
  return 0.5 * (1 + np.tanh(0.5 * x))


# The population of the demo. Each group is transitive; their mean is not.
GROUPS: dict[str, Rater] = {
  "coverage first": lexicographic(
    ("grammatical", 1), ("coverage", 1), ("hallucinations", -1), ("words", -1)
  ),
  "brevity first": lexicographic(
    ("grammatical", 1), ("words", -1), ("coverage", 1), ("hallucinations", -1)
  ),
  "faithfulness first": lexicographic(
    ("grammatical", 1),
    ("hallucinations", -1),
    ("sourced", 1),
    ("coverage", 1),
    ("words", -1),
  ),
}
WEIGHTS = (1 / 3, 1 / 3, 1 / 3)
population_rater = mixture(tuple(GROUPS.values()), WEIGHTS)
gold_rater = bradley_terry()

population = annotator(population_rater)
gold = annotator(gold_rater)
gold_length_biased = annotator(length_biased(gold_rater))
gold_noisy = annotator(noisy(gold_rater))


def gold_reward(post: str, summary: str) -> float:
  """The gold reward of one summary."""
  return float(reward(attributes([post], [summary]))[0])


def gold_segments(post: str, summary: str) -> list[tuple[int, float]]:
  """The gold reward by clauses: (characters up to the end, reward).

  A judge of kind "segments"; the rewards sum to `gold_reward`.
  """
  words = summary.split(" ")
  ends = np.cumsum([len(word) + 1 for word in words]) - 1
  places = [i for i, word in enumerate(words) if word]
  found = []
  for start, stop, earned in segment_rewards(post, summary):
    end = int(ends[places[stop - 1]]) if stop > start else len(summary)
    found.append((end, float(earned)))
  return found


def gold_cost(post: str, summary: str) -> float:
  """The gold cost of one summary."""
  return float(cost(attributes([post], [summary]))[0])


def measures(
  posts: Sequence[str], summaries: Sequence[str]
) -> dict[str, np.ndarray]:
  """The measures of summaries that a report shows: name -> [N] numbers."""
  of = attributes(posts, summaries)
  clauses = np.maximum(of.clauses, 1)
  return {
    "gold reward": reward(of),
    "grammatical %": 100 * of.grammatical,
    "true clauses %": 100 * (of.clauses - of.hallucinations) / clauses,
    "coverage %": 100 * of.coverage,
    "words": of.words,
  }
