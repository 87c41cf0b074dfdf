"""Summaries with known faults, as people write them; and pure archetypes."""

from collections.abc import Callable, Sequence

import numpy as np

from jalign.data.tldr_world.language import (
  DETAILS,
  FILLER,
  NAMES,
  OBJECTS,
  VERBS,
  Fact,
  Post,
  read_post,
)

# Shares of the kinds of demonstrations, and of the ways to give details.
# Frozen with the world on 2026-11-25, before any algorithm was tuned on it.
SHARES = {
  "good": 0.15,
  "verbose": 0.30,
  "incomplete": 0.20,
  "hallucinating": 0.35,
}
DETAIL_SHARES = {"all": 0.45, "none": 0.45, "mixed": 0.10}
MAX_WORDS = 23  # 24 tokens with the end of sequence

_Clauses = list[tuple[str, ...]]


def _draw(generator: np.random.Generator, shares: dict[str, float]) -> str:
  at = np.searchsorted(np.cumsum(list(shares.values())), generator.random())
  return list(shares)[min(int(at), len(shares) - 1)]


def sample_demonstration(
  post: Post, generator: np.random.Generator
) -> tuple[str, str]:
  """Draws a summary as a person might write it.

  There are four kinds. good: the salient facts and nothing else. verbose: also
  facts that aren't salient, or "it seems that". incomplete: one or more salient
  facts are missing. hallucinating: one word of one clause is changed, so that
  the clause is false. Details are given in all clauses, in none, or in some.
  Clauses beyond `MAX_WORDS` words are left out.

  Returns:
    (kind, text).
  """
  kind = _draw(generator, SHARES)
  details = _draw(generator, DETAIL_SHARES)
  facts: list[Fact] = list(post.salient)
  filler = set()
  false = -1
  if kind == "verbose":
    extra = generator.random()
    if extra < 0.7:
      wordy = {*facts, *post.others[: int(generator.integers(1, 3))]}
      facts = [f for f in post.facts if f in wordy]
    if extra > 0.4:
      filler = {int(generator.integers(len(facts)))}
  elif kind == "incomplete":
    keep = int(generator.integers(1, len(facts)))
    chosen = sorted(generator.permutation(len(facts))[:keep].tolist())
    facts = [facts[i] for i in chosen]
  elif kind == "hallucinating":
    false = int(generator.integers(len(facts)))
  clauses: _Clauses = []
  for i, fact in enumerate(facts):
    sourced = details == "all" or (
      details == "mixed" and generator.random() < 0.5
    )
    if i == false:
      fact = _corrupt(fact, post, sourced, generator)
    clause = fact.sourced if sourced else fact.plain
    clauses.append((*FILLER, *clause) if i in filler else clause)
  while sum(map(len, clauses)) > MAX_WORDS:
    clauses.pop()
  return kind, _text(clauses)


def _corrupt(
  fact: Fact, post: Post, sourced: bool, generator: np.random.Generator
) -> Fact:
  """The fact with one word changed to a word that isn't in the post."""
  parts = [fact.name, fact.verb, fact.object, fact.detail]
  place = int(generator.integers(4 if sourced else 3))
  pool = (NAMES, VERBS, OBJECTS, DETAILS)[place]
  used = set(post.text.split())
  choices = [word for word in pool if word not in used]
  parts[place] = choices[int(generator.integers(len(choices)))]
  return Fact(*parts)


def _text(clauses: Sequence[Sequence[str]]) -> str:
  return " ".join(word for clause in clauses for word in clause)


def _false(post: Post) -> Fact:
  """A false fact: the first fact with the second one's verb."""
  first, second = post.facts[0], post.facts[1]
  return Fact(first.name, second.verb, first.object, first.detail)


def _plain(facts: Sequence[Fact]) -> _Clauses:
  return [fact.plain for fact in facts]


def _sourced(facts: Sequence[Fact]) -> _Clauses:
  return [fact.sourced for fact in facts]


# Pure types of summaries; each is a function of the post alone.
ARCHETYPES: dict[str, Callable[[Post], _Clauses]] = {
  "complete plain": lambda p: _plain(p.salient),
  "complete sourced": lambda p: _sourced(p.salient),
  "all but one plain": lambda p: _plain(p.salient[:-1]),
  "all but one sourced": lambda p: _sourced(p.salient[:-1]),
  "one fact plain": lambda p: _plain(p.salient[:1]),
  "one fact sourced": lambda p: _sourced(p.salient[:1]),
  "everything plain": lambda p: _plain(p.facts)[:5],
  "everything sourced": lambda p: _sourced(p.facts)[:4],
  "complete with filler": lambda p: [
    (*FILLER, *p.salient[0].plain),
    *_plain(p.salient[1:]),
  ],
  "complete repeated": lambda p: _plain((*p.salient, p.salient[0])),
  "complete and one false": lambda p: _plain((*p.salient, _false(p))),
  "all but one, one false": lambda p: _plain((*p.salient[:-1], _false(p))),
}


def archetype(name: str, post: Post) -> str:
  """The summary of a pure type.

  Args:
    name: a key of `ARCHETYPES`.
    post: any post.
  """
  return _text(ARCHETYPES[name](post))


# Archetypes that a report shows as contestants: the three of the cycle, and the
# shortest that states a fact.
SHOWN = (
  "complete plain",
  "complete sourced",
  "all but one sourced",
  "one fact plain",
)


def archetypes(posts: Sequence[str]) -> dict[str, list[str]]:
  """Summaries of the shown types: name -> a summary for each post's text."""
  return {
    name: [archetype(name, read_post(post)) for post in posts] for name in SHOWN
  }
