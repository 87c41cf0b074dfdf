"""Exact attributes of summaries.

A summary is a sequence of clauses `[it seems that] name verb object [detail] .`
It is read word by word, up to the first word that doesn't fit.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jalign.data.tldr_world.language import FILLER, STOP, is_part, read_post


class Clause(NamedTuple):
  """One clause of a summary, judged against the post.

  Attributes:
    start: index of its first word, including the filler's.
    stop: index after its full stop.
    filler: whether it begins with "it seems that".
    new: whether it is the first clause to state this salient fact.
    true: whether its name, verb and object are those of a fact of the post and
      its detail, if it has one, is that fact's.
    sourced: whether it is true and has its detail.
  """

  start: int
  stop: int
  filler: bool
  new: bool
  true: bool
  sourced: bool


class Attributes(NamedTuple):
  """What a summary is worth, as numbers or arrays [N] for N summaries.

  Attributes:
    grammatical: 1 if the whole text is one or more clauses, else 0. The other
      attributes but `words` describe the clauses before the first error.
    coverage: share of the post's salient facts that the summary states.
    hallucinations: number of clauses that the post doesn't state.
    redundant: number of true clauses that repeat a fact or aren't salient.
    filler: number of clauses that begin with "it seems that".
    words: number of words of the text, full stops included.
    sourced: share of the clauses that are true and have their detail.
    clauses: number of clauses.
  """

  grammatical: np.ndarray
  coverage: np.ndarray
  hallucinations: np.ndarray
  redundant: np.ndarray
  filler: np.ndarray
  words: np.ndarray
  sourced: np.ndarray
  clauses: np.ndarray


def read_summary(post: str, summary: str) -> tuple[list[Clause], bool]:
  """Reads the clauses of a summary.

  Args:
    post: text of the post.
    summary: any text.

  Returns:
    (clauses before the first error, whether they are the whole text).

  Raises:
    UserError: `post` is no post of the world.
  """
  there = read_post(post)
  by_core = {f.plain[:3]: f for f in there.facts}
  open_ = set(there.salient)
  words = summary.split()
  clauses: list[Clause] = []
  at = 0
  while at < len(words):
    start = at
    filler = tuple(words[at : at + 3]) == FILLER
    at += 3 * filler
    core = tuple(words[at : at + 3])
    if len(core) < 3 or not all(is_part(w, i) for i, w in enumerate(core)):
      return clauses, False
    at += 3
    detail = at < len(words) and is_part(words[at], 3)
    stop = at + detail
    if stop >= len(words) or words[stop] != STOP:
      return clauses, False
    fact = by_core.get(core)
    true = fact is not None and (not detail or fact.detail == words[at])
    new = true and fact in open_
    if new and fact is not None:
      open_.remove(fact)
    at = stop + 1
    clauses.append(Clause(start, at, filler, new, true, true and detail))
  return clauses, bool(clauses)


@functools.lru_cache(maxsize=262144)
def _attributes(post: str, summary: str) -> tuple[float, ...]:
  clauses, grammatical = read_summary(post, summary)
  count = len(clauses)
  return (
    float(grammatical),
    sum(c.new for c in clauses) / len(read_post(post).salient),
    sum(not c.true for c in clauses),
    sum(c.true and not c.new for c in clauses),
    sum(c.filler for c in clauses),
    len(summary.split()),
    sum(c.sourced for c in clauses) / count if count else 0.0,
    count,
  )


def attributes(posts: Sequence[str], summaries: Sequence[str]) -> Attributes:
  """The attributes of N summaries.

  Args:
    posts: N texts of posts.
    summaries: N texts, whatever they say.

  Returns:
    Attributes of float64 arrays [N].

  Raises:
    UserError: a post is no post of the world.
  """
  rows = [_attributes(x, y) for x, y in zip(posts, summaries, strict=True)]
  table = np.array(rows, np.float64).reshape(-1, len(Attributes._fields))
  return Attributes(*table.T)
