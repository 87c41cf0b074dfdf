"""The TL;DR world as records; post i is the same in every configuration.

Post i of seed s is drawn from the generator of (s, "post", i), and its
summaries from other generators, so that the first n records never depend on how
many are asked for.
"""

import functools
import re
from collections.abc import Callable
from typing import Any

from jalign.data.schema import (
  BinaryRecord,
  DemonstrationRecord,
  PreferenceRecord,
  PromptRecord,
  RankedRecord,
  Report,
)
from jalign.data.tldr_world import language, opinions, raters
from jalign.data.tldr_world.demonstrations import sample_demonstration
from jalign.data.tldr_world.language import (
  Post,
  rng,
  sample_post,
  source_of,
  split_key,
)
from jalign.errors import UserError

POSTS = 10_000  # records of a configuration, unless another number is asked for
RANKED = 4  # summaries of a ranked list
ECHO_WORDS = 12


def sft_record(post: Post, seed: int, i: int) -> DemonstrationRecord:
  """A record with one imperfect demonstration."""
  _, text = sample_demonstration(post, rng(seed, "sft", i))
  return DemonstrationRecord(
    post.text, text, source_of("sft", i), split_key(post.text)
  )


def preference_record(post: Post, seed: int, i: int) -> PreferenceRecord:
  """A pair of different demonstrations, ordered by a draw of the population.

  `preference` is the exact P(chosen > rejected) under the population. The
  scores are gold rewards, which needn't agree with the order.
  """
  generator = rng(seed, "preferences", i)
  _, a = sample_demonstration(post, generator)
  b = a
  while b == a:
    _, b = sample_demonstration(post, generator)
  p = float(raters.population([post.text], [a], [b])[0])
  if generator.random() >= p:
    a, b, p = b, a, 1 - p
  return PreferenceRecord(
    prompt=post.text,
    chosen=a,
    rejected=b,
    source=source_of("preferences", i),
    group=split_key(post.text),
    preference=p,
    chosen_score=raters.gold_reward(post.text, a),
    rejected_score=raters.gold_reward(post.text, b),
  )


def ranked_record(post: Post, seed: int, i: int) -> RankedRecord:
  """`RANKED` different demonstrations with their gold rewards, best first."""
  generator = rng(seed, "ranked", i)
  rewards: dict[str, float] = {}
  while len(rewards) < RANKED:
    _, text = sample_demonstration(post, generator)
    rewards[text] = raters.gold_reward(post.text, text)
  order = sorted(rewards, key=lambda text: -rewards[text])
  return RankedRecord(
    post.text,
    tuple(order),
    tuple(rewards[text] for text in order),
    source_of("ranked", i),
    split_key(post.text),
  )


def binary_record(post: Post, seed: int, i: int) -> BinaryRecord:
  """A demonstration, labelled desirable if its gold cost is negative."""
  _, text = sample_demonstration(post, rng(seed, "binary", i))
  good = raters.gold_cost(post.text, text) < 0
  return BinaryRecord(
    post.text, text, good, source_of("binary", i), split_key(post.text)
  )


def prompt_record(post: Post, seed: int, i: int) -> PromptRecord:
  """A post without a summary."""
  del seed
  return PromptRecord(post.text, source_of("prompts", i), split_key(post.text))


def echo_record(seed: int, i: int) -> DemonstrationRecord:
  """Words in random order, which the response repeats from a random one on.

  A language model that is to summarise must first learn to copy, which it
  learns ten times faster on such lists than on posts. The list has no structure
  of a post.
  """
  generator = rng(seed, "echo", i)
  words = generator.permutation(
    language.NAMES + language.VERBS + language.OBJECTS + language.DETAILS
  )[:ECHO_WORDS].tolist()
  at = int(generator.integers(ECHO_WORDS))
  prompt = " ".join(words) + " "
  response = " ".join(words[at:] + words[:at])
  return DemonstrationRecord(
    prompt, response, source_of("echo", i), split_key(prompt)
  )


_OF_POST: dict[str, Callable[[Post, int, int], Any]] = {
  "sft": sft_record,
  "preferences": preference_record,
  "ranked": ranked_record,
  "binary": binary_record,
  "prompts": prompt_record,
  "raters": opinions.rater_record,
  "costs": opinions.cost_record,
  "ratings": opinions.rating_record,
  "votes": opinions.vote_record,
}
CONFIGS = (*_OF_POST, "echo")


def post(i: int, seed: int = 0) -> Post:
  """Post i of a world, counted from 0."""
  return sample_post(rng(seed, "post", i))


@functools.cache  # several stages read the same records
def records(
  config: str, count: int = POSTS, seed: int = 0, start: int = 0
) -> tuple[Any, ...]:
  """Records of a configuration, in their order.

  Args:
    config: one of `CONFIGS`.
    count: number of records, those before `start` included; each is made from a
      post of its own.
    seed: seed of the world; results are reported on 0, the frozen one.
    start: number of records to leave out at the beginning.
  """
  numbers = range(start, count)
  if config == "echo":
    return tuple(echo_record(seed, i) for i in numbers)
  make = _OF_POST[config]
  return tuple(make(post(i, seed), seed, i) for i in numbers)


def read_tldr_world(
  path: str,
  on_error: str = "error",
  *,
  data_dir: str = "",
) -> tuple[list[Any], Report]:
  """The TL;DR world as a data source.

  Args:
    path: a configuration, followed by the numbers of its records if those
      aren't the first `POSTS`: "sft", "sft[:6000]", "raters[8000:9000]".
    on_error: accepted as by every reader; no row is ever bad.
    data_dir: must be empty, since the world is generated.

  Raises:
    UserError: there is no such configuration, or `data_dir` is given.
  """
  del on_error
  if data_dir:
    raise UserError(
      "the TL;DR world lies in no folder.",
      where="config.data.data_dir",
      remedy="Leave it empty.",
    )
  match = re.fullmatch(r"(\w+)(?:\[(\d*):(\d+)\])?", str(path))
  name, first, last = match.groups() if match else ("", None, None)
  start, stop = int(first or 0), int(last or POSTS)
  if name not in CONFIGS or (last is not None and int(last) <= start):
    raise UserError(
      f"{str(path)!r} is not a part of the TL;DR world.",
      where="config.data.path",
      remedy=f"Give one of {', '.join(CONFIGS)}, with a number of records as"
      " in 'sft[:6000]' or 'sft[6000:7000]'.",
    )
  rows = list(records(name, stop, start=start))
  noun = "prompts" if name == "prompts" else "records"
  if isinstance(rows[0], PreferenceRecord):
    noun = "pairs"
  return rows, Report(f"tldr_world/{name}", len(rows), len(rows), noun=noun)
