"""The TL;DR world: a small language in which every question has an answer.

Posts state facts about people, and a cue word marks the salient facts. A good
summary states the salient facts, briefly, and invents nothing. A summary's
attributes, the rewards and the preferences of several kinds of raters are exact
functions. The preferences of one population of raters form a cycle.


  language        words, facts, posts
  summary         the attributes of any summary
  raters          gold reward and cost, raters, the population
  demonstrations  imperfect demonstrations in known shares; pure archetypes
  opinions        records of named raters, principles, costs and ratings
  ceiling         the best that any summary can do
  bayes           the best that any model of the labels can do
  dataset         the world as records; builder: the world as a TFDS data set

The language, the raters and the shares were frozen on 2026-11-25, before any
algorithm was tuned on them (seed 0 of `dataset`).
"""

from jalign.data.tldr_world.bayes import (
  Limit,
  Limits,
  bayes,
  bradley_terry_fit,
  expected,
  limits,
)
from jalign.data.tldr_world.ceiling import (
  attainable,
  best_responses,
  cross_fitted,
  exploitability,
)
from jalign.data.tldr_world.dataset import (
  CONFIGS,
  post,
  read_tldr_world,
  records,
)
from jalign.data.tldr_world.demonstrations import (
  ARCHETYPES,
  SHARES,
  SHOWN,
  archetype,
  archetypes,
  sample_demonstration,
)
from jalign.data.tldr_world.language import (
  Fact,
  Post,
  read_post,
  sample_post,
  vocabulary,
)
from jalign.data.tldr_world.opinions import (
  PER_RATER,
  PRINCIPLES,
  Votes,
  foresight_reward,
  group_of_rater,
  harmless_rater,
  ratings,
  votes,
)
from jalign.data.tldr_world.raters import (
  GROUPS,
  WEIGHTS,
  annotator,
  bradley_terry,
  cost,
  gold,
  gold_cost,
  gold_length_biased,
  gold_noisy,
  gold_rater,
  gold_reward,
  gold_segments,
  length_biased,
  lexicographic,
  measures,
  mixture,
  noisy,
  population,
  population_rater,
  reward,
  segment_rewards,
)
from jalign.data.tldr_world.summary import (
  Attributes,
  attributes,
  read_summary,
)

__all__ = [
  "ARCHETYPES",
  "CONFIGS",
  "GROUPS",
  "PER_RATER",
  "PRINCIPLES",
  "SHARES",
  "SHOWN",
  "WEIGHTS",
  "Attributes",
  "Fact",
  "Limit",
  "Limits",
  "Post",
  "Votes",
  "annotator",
  "archetype",
  "archetypes",
  "attainable",
  "attributes",
  "bayes",
  "best_responses",
  "bradley_terry",
  "bradley_terry_fit",
  "cost",
  "cross_fitted",
  "expected",
  "exploitability",
  "foresight_reward",
  "gold",
  "gold_cost",
  "gold_length_biased",
  "gold_noisy",
  "gold_rater",
  "gold_reward",
  "gold_segments",
  "group_of_rater",
  "harmless_rater",
  "length_biased",
  "lexicographic",
  "limits",
  "measures",
  "mixture",
  "noisy",
  "population",
  "population_rater",
  "post",
  "ratings",
  "read_post",
  "read_summary",
  "read_tldr_world",
  "records",
  "reward",
  "sample_demonstration",
  "sample_post",
  "segment_rewards",
  "vocabulary",
  "votes",
]
