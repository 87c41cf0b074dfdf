"""Reward models of the world's pairs and of dialogues, with what rivals them.

`reward_models_trained` says what they show.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from experiments.papers import policies
from experiments.papers.alignment import align
from experiments.papers.scorers import (
  Learner,
  learn,
  readers,
  told,
  with_pairs,
  with_sides,
  world_records,
)
from jalign import evaluation
from jalign.data import tldr_world
from jalign.evaluation import ScoredPairs
from jalign.evaluation.clustered import Mean
from jalign.evaluation.reward_accuracy import reference_score
from jalign.experiment.data.dataset import Dataset
from jalign.types import Params

SIZES = (500, 2000, 8000)
HELD_OUT, UNSEEN = 1000, 40_000  # pairs, and the first post of theirs
LEARNERS = {
  "preference model": Learner("bradley_terry"),
  "discrimination": Learner("binary_discrimination", rows=128),
  "imitation": Learner("sft", rate=1e-3, scores=False),
}
BETA = 0.1
RATES = (1e-3, 3e-3)  # of DPO; the best on the held-out pairs is kept
SHIFTS = {
  "held out": ("raters", tldr_world.gold),
  "labels that like length": ("raters", tldr_world.gold_length_biased),
  "other responses": ("preferences", tldr_world.gold),
}
DIALOGUES = Learner("bradley_terry", rate=1e-3, rows=32, epochs=1)


class World(NamedTuple):
  """What was learnt of the world's pairs.

  Attributes:
    start: accuracy of the SFT policy's log-probs on the held-out pairs.
    scores: learner -> number of pairs -> scores of the held-out pairs.
    reference: mean score of chosen responses of other posts, after the mean
      score of chosen responses of training was subtracted.
    constant: that mean.
    rate: learning rate of DPO.
    shifted: file -> "explicit" or "implicit" -> scores of its pairs.
  """

  start: ScoredPairs
  scores: dict[str, dict[int, ScoredPairs]]
  reference: Mean
  constant: float
  rate: float
  shifted: dict[str, dict[str, ScoredPairs]]


class Dialogues(NamedTuple):
  """A reward model of dialogues.

  Attributes:
    pairs: scores of the held-out pairs.
    start: log-probs of the SFT policy as scores of the same pairs.
    trained: number of training pairs.
  """

  pairs: ScoredPairs
  start: ScoredPairs
  trained: int


def _of(dataset: Dataset, held_out: list[Any]) -> Dataset:
  return dataclasses.replace(dataset, held_out=held_out)


def run_world(start: policies.Trained) -> World:
  """Trains everything in the world."""
  read = readers(start)
  train = world_records("raters", 0, max(SIZES), tldr_world.gold)
  files = {
    name: world_records(config, UNSEEN, HELD_OUT, rater)
    for name, (config, rater) in SHIFTS.items()
  }
  own = with_pairs(start, train, files["held out"])
  whole = own.pairs.train
  scores: dict[str, dict[int, ScoredPairs]] = {name: {} for name in LEARNERS}
  best: Params = {}
  for size in SIZES:
    for name, how in LEARNERS.items():
      some = own._replace(
        pairs=dataclasses.replace(own.pairs, train=whole[:size])
      )
      params = learn(
        with_sides(some, train[:size]) if name == "discrimination" else some,
        how,
      )
      found = (
        read.explicit(own, params)
        if how.scores
        else read.implicit(own, params, None, 1.0)
      )
      scores[name][size] = found
      if name == "preference model":
        best = params
      print(f"{name}, {size:,} pairs: {told(evaluation.accuracy(found))}")
  seen = own._replace(pairs=_of(own.pairs, whole[: 2 * HELD_OUT]))
  constant = float(np.mean(read.explicit(seen, best).chosen))
  held = scores["preference model"][max(SIZES)]
  reference = reference_score(held.chosen - constant, held.groups)
  ref = own.score(start.params, "train")
  tuned: dict[float, Params] = {}
  accuracy: dict[float, float] = {}
  mine = own.score(start.params, "eval")
  for rate in RATES:
    steps = 2 * len(whole) // 64
    course = align(
      own, ref, "dpo", {"beta": BETA}, steps=steps, learning_rate=rate
    )
    tuned[rate] = course.params
    pairs = read.implicit(own, course.params, mine, BETA)
    accuracy[rate] = evaluation.accuracy(pairs).mean
    print(f"DPO, learning rate {rate:g}: {100 * accuracy[rate]:.1f} %")
  rate = max(accuracy, key=lambda r: accuracy[r])
  shifted = {}
  for name, records in files.items():
    other = with_pairs(start, train[:64], records)
    ref = other.score(start.params, "eval")
    shifted[name] = {
      "explicit": read.explicit(other, best),
      "implicit": read.implicit(other, tuned[rate], ref, BETA),
    }
    print(
      name, {k: told(evaluation.accuracy(p)) for k, p in shifted[name].items()}
    )
  return World(
    read.implicit(own, start.params, None, 1.0),
    scores,
    reference,
    constant,
    rate,
    shifted,
  )


def run_dialogues(start: policies.Trained) -> Dialogues:
  """Trains a reward model of dialogues for one epoch."""
  read = readers(start)
  params = learn(start, DIALOGUES)
  found = read.explicit(start, params)
  print(f"dialogues: {told(evaluation.accuracy(found))}")
  plain = read.implicit(start, start.params, None, 1.0)
  return Dialogues(found, plain, len(start.pairs.train))
