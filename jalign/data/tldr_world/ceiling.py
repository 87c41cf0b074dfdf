"""Exact ceilings: the best that any summary can do, by enumeration.

Raters see only attributes, so the best summary of a post is found among the
attribute vectors of its grammatical summaries.
"""

import functools
import itertools
from collections.abc import Sequence

import numpy as np

from jalign.data.tldr_world.demonstrations import MAX_WORDS
from jalign.data.tldr_world.language import Post, read_post
from jalign.data.tldr_world.raters import Rater
from jalign.data.tldr_world.summary import Attributes, attributes


@functools.lru_cache
def attainable(salient: int, max_words: int = MAX_WORDS) -> Attributes:
  """The attributes of all grammatical summaries of a post, without repeats.

  Args:
    salient: number of salient facts of the post. (The number of other facts
      doesn't matter: repeating a fact counts like stating another one.)
    max_words: most words of a summary.

  Returns:
    Attributes of N vectors, as arrays [N].
  """
  attributes = set()
  most = max_words // 4
  for new, redundant, false in itertools.product(
    range(salient + 1), range(most + 1), range(most + 1)
  ):
    clauses, true = new + redundant + false, new + redundant
    if not 1 <= clauses <= most:
      continue
    # A false clause may have a detail, too: it adds a word, as in a true
    # clause, but the clause isn't sourced.
    for sourced, extra, filler in itertools.product(
      range(true + 1), range(false + 1), range(clauses + 1)
    ):
      words = 4 * clauses + sourced + extra + 3 * filler
      if words <= max_words:
        coverage, share = new / salient, sourced / clauses
        attributes.add(
          (1, coverage, false, redundant, filler, words, share, clauses)
        )
  return Attributes(*np.array(sorted(attributes), np.float64).T)


def best_responses(
  rater: Rater, posts: Sequence[Post], opponents: Sequence[Sequence[str]]
) -> np.ndarray:
  """The highest win rate that any response has, for each post.

  Args:
    rater: the exact annotator.
    posts: G posts.
    opponents: K responses to each post; the response plays against their
      mixture.

  Returns:
    [G] max over grammatical summaries y of mean_k P(y > opponents_k): no
    response has a higher win rate over these K. If they are samples of a
    policy, this is an upper bound on the win rate of a best response to the
    policy, which doesn't know the draws; see `cross_fitted`.
  """
  return np.array(
    [
      _against(rater, post, texts).mean(1).max()
      for post, texts in zip(posts, opponents, strict=True)
    ]
  )


def cross_fitted(
  rater: Rater, posts: Sequence[Post], opponents: Sequence[Sequence[str]]
) -> np.ndarray:
  """The win rate of a response over draws that it wasn't chosen on.

  The best response to one half of the samples plays against the other half, and
  the other way round. In expectation this is a win rate that some response has
  over the policy, and so a lower bound on the best response's, where
  `best_responses` gives an upper bound.

  Args:
    rater: the exact annotator.
    posts: G posts.
    opponents: K >= 2 samples of a policy for each post.

  Returns:
    [G] win rates, in [0, 1].
  """
  rates = []
  for post, texts in zip(posts, opponents, strict=True):
    p = _against(rater, post, texts)
    halves = p[:, ::2], p[:, 1::2]
    rates.append(
      np.mean(
        [
          there.mean(1)[here.mean(1).argmax()]
          for here, there in (halves, halves[::-1])
        ]
      )
    )
  return np.array(rates)


def _against(rater: Rater, post: Post, texts: Sequence[str]) -> np.ndarray:
  """[N, K] P of every attainable summary being preferred to each text."""
  mine = attainable(len(post.salient))
  theirs = attributes([post.text] * len(texts), texts)
  return rater(
    Attributes(*(x[:, None] for x in mine)),
    Attributes(*(x[None] for x in theirs)),
  )


def exploitability(
  rater: Rater, posts: Sequence[str], summaries: Sequence[str]
) -> float:
  """How much a best response wins beyond one half against a policy.

  max_y P(y > policy) - 1/2, averaged over posts, where the policy is the
  mixture of its responses to a post; 0 for a Nash policy. With few responses
  per post this is an upper bound, since the best response knows the draws.

  Args:
    rater: the exact annotator.
    posts: N texts; equal texts are one post.
    summaries: N texts, the policy's responses to `posts`.
  """
  by_post: dict[str, list[str]] = {}
  for post, text in zip(posts, summaries, strict=True):
    by_post.setdefault(post, []).append(text)
  values = best_responses(
    rater, [read_post(post) for post in by_post], list(by_post.values())
  )
  return float(values.mean() - 0.5)
