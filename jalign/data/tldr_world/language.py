"""Posts: a vocabulary of about 200 words, facts, cues and chatter.

A post is a shuffle of short sentences. Facts are `[cue] name verb object
detail .`; a cue word marks the salient ones. Chatter states nothing. A fact has
no articles or prepositions, and names, verbs, objects and details are unique
within a post. So every word of a fact follows a word that occurs once, and
copying needs one step of look-back (induction), which a two-layer transformer
learns.
"""

import dataclasses
import functools
from typing import Any

import numpy as np

from jalign.errors import UserError


def _words(text: str) -> tuple[str, ...]:
  return tuple(text.split())


NAMES = _words(
  "anna ben carla david emma felix grace hugo irene jonas kate leo maria"
  " nils olga paul quinn rosa simon tara ugo vera walter xenia yusuf zoe"
  " amir bella cyrus dora elias fiona gavin hanna ivan julia karim lena"
  " marco nina"
)
VERBS = _words(
  "sold bought found lost painted broke hid cleaned borrowed shipped"
  " repaired stole baked packed dropped copied burned washed built"
  " collected"
)
OBJECTS = _words(
  "bikes boats books boots cakes cameras candles carpets chairs clocks"
  " coats dolls drums flags guitars hats kites knives lamps ladders maps"
  " masks mirrors pans pearls pianos pies plates rings robots ropes shoes"
  " stamps swords tables tents toys vases violins wheels"
)
DETAILS = _words(
  "yesterday today online abroad downtown upstairs secretly alone quickly"
  " slowly twice again early late carefully loudly overnight outdoors"
  " nearby together quietly cheaply proudly recently"
)
CUES = ("importantly", "notably", "surprisingly", "finally")
ADJECTIVES = _words(
  "cold warm strange long busy quiet lovely dull bright grey loud calm"
  " sweet bitter odd nice"
)
CHATTER = (
  "what a {} week .",
  "the weather is {} .",
  "my coffee was {} .",
  "i feel {} .",
  "so {} here .",
)
FILLER = ("it", "seems", "that")
BEGIN, TLDR, STOP = "post:", "tl;dr:", "."

_PARTS = (NAMES, VERBS, OBJECTS, DETAILS)


@dataclasses.dataclass(frozen=True)
class Fact:
  """Who did what to what, and how or when; one word each."""

  name: str
  verb: str
  object: str
  detail: str

  @property
  def plain(self) -> tuple[str, ...]:
    """The clause without its detail."""
    return (self.name, self.verb, self.object, STOP)

  @property
  def sourced(self) -> tuple[str, ...]:
    """The clause with its detail."""
    return (self.name, self.verb, self.object, self.detail, STOP)


@dataclasses.dataclass(frozen=True)
class Post:
  """A post and the facts that it states.

  Attributes:
    salient: two or three facts marked by a cue, in their order.
    others: one or two facts without a cue, in their order.
    facts: all facts, in the order of the post.
    text: the prompt: "post: ... tl;dr: ", which a summary is to follow.
  """

  salient: tuple[Fact, ...]
  others: tuple[Fact, ...]
  facts: tuple[Fact, ...]
  text: str


def vocabulary() -> tuple[str, ...]:
  """Every word of posts and summaries, in a fixed order."""
  chatter = [w for line in CHATTER for w in line.split() if w != "{}"]
  words = (BEGIN, TLDR, STOP, *FILLER, *CUES, *ADJECTIVES, *chatter)
  for part in _PARTS:
    words += part
  return tuple(dict.fromkeys(words))


def rng(*purpose: Any) -> np.random.Generator:
  """The random generator of one purpose, named by numbers and short names."""
  parts = [
    int.from_bytes(p.encode(), "big") if isinstance(p, str) else p
    for p in purpose
  ]
  return np.random.default_rng(parts)


def source_of(config: str, i: int) -> str:
  """The place of record i, as if a configuration were a file."""
  return f"tldr_world/{config}:{i + 1}"


def split_key(prompt: str) -> str:
  """The split key of a prompt, as if the prompt were read from a file."""
  return prompt.strip()


def sample_post(generator: np.random.Generator) -> Post:
  """Draws a post: 2 or 3 salient facts, 1 or 2 others, 1 to 3 chatter lines."""
  salient = int(generator.integers(2, 4))
  others = int(generator.integers(1, 3))
  count = salient + others
  words = [generator.permutation(part)[:count].tolist() for part in _PARTS]
  facts = [Fact(*parts) for parts in zip(*words)]
  lines: list[tuple[str, Fact | None]] = []
  cues = generator.permutation(CUES)
  for i, fact in enumerate(facts):
    cue = f"{cues[i]} " if i < salient else ""
    lines.append((cue + " ".join(fact.sourced), fact))
  chatter = int(generator.integers(1, 4))
  adjectives = generator.permutation(ADJECTIVES)
  for i, line in enumerate(generator.permutation(CHATTER)[:chatter]):
    lines.append((line.format(adjectives[i]), None))
  lines = [lines[i] for i in generator.permutation(len(lines))]
  ordered = tuple(fact for _, fact in lines if fact is not None)
  marked = set(facts[:salient])
  return Post(
    salient=tuple(f for f in ordered if f in marked),
    others=tuple(f for f in ordered if f not in marked),
    facts=ordered,
    text=f"{BEGIN} {' '.join(line for line, _ in lines)} {TLDR} ",
  )


@functools.lru_cache(maxsize=65536)
def read_post(text: str) -> Post:
  """The post that a prompt's text stands for.

  Raises:
    UserError: the text is no post of this world, or has no salient fact.
  """
  words = text.split()
  if words[:1] != [BEGIN] or words[-1:] != [TLDR]:
    raise UserError(
      f"{text[:60]!r} is not a post of the TL;DR world.",
      where="prompt",
      remedy=f"Posts begin with {BEGIN!r} and end with {TLDR!r}.",
    )
  salient: list[Fact] = []
  others: list[Fact] = []
  facts: list[Fact] = []
  sentence: list[str] = []
  for word in words[1:-1]:
    if word != STOP:
      sentence.append(word)
      continue
    marked = sentence[:1] != [] and sentence[0] in CUES
    parts = sentence[1:] if marked else sentence
    if len(parts) == 4 and all(w in p for w, p in zip(parts, _SETS)):
      fact = Fact(*parts)
      facts.append(fact)
      (salient if marked else others).append(fact)
    sentence = []
  if not salient:
    raise UserError(
      f"{text[:60]!r} has no salient fact.",
      where="prompt",
      remedy="Mark one by a cue: importantly anna sold bikes online .",
    )
  return Post(tuple(salient), tuple(others), tuple(facts), text)


_SETS = tuple(frozenset(part) for part in _PARTS)


def is_part(word: str, place: int) -> bool:
  """Whether a word can stand at a place of a clause (0 for the name, ...)."""
  return word in _SETS[place]
