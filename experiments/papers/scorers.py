"""Reward models and policies trained on pairs, and what they say of others."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.papers.policies import Trained
from jalign import data, losses
from jalign.data import tldr_world
from jalign.evaluation import ScoredPairs, from_margins
from jalign.evaluation.calibration import agreement
from jalign.evaluation.clustered import Mean, clustered_mean
from jalign.evaluation.likelihood import PairScores
from jalign.experiment.reward_pairs import make_scored_pairs
from jalign.models.heads import scalar
from jalign.sharding import make_mesh
from jalign.training import (
  OptimizerConfig,
  init_state,
  make_objective,
  make_optimizer,
  make_update,
)
from jalign.types import Params

Annotator = Callable[[Sequence[str], Sequence[str], Sequence[str]], np.ndarray]
LIMITS = data.Limits(72, 48, 24)  # of the world's texts, none of which is cut


def labelled(
  records: Sequence[data.PreferenceRecord], rater: Annotator, seed: int = 0
) -> list[data.PreferenceRecord]:
  """The same pairs of texts, labelled anew by draws of an exact rater.

  `preference` is the rater's exact P(chosen > rejected).
  """
  texts = [[r.prompt for r in records]]
  texts += [[getattr(r, n) for r in records] for n in ("chosen", "rejected")]
  p = rater(*texts)
  wins = np.random.default_rng(seed).uniform(size=len(p)) < p
  return [
    data.PreferenceRecord(
      r.prompt,
      r.chosen if won else r.rejected,
      r.rejected if won else r.chosen,
      r.source,
      r.group,
      preference=float(q if won else 1 - q),
    )
    for r, q, won in zip(records, p, wins)
  ]


def world_records(
  config: str, start: int, count: int, rater: Annotator
) -> list[data.PreferenceRecord]:
  """Pairs of the world's posts start, ..., start + count - 1.

  Args:
    config: "raters", for pairs of archetypes, or "preferences", for pairs of
      imperfect demonstrations; the records' own labels don't count.
    start: number of the first post.
    count: number of posts.
    rater: gives the labels.
  """
  found = tldr_world.records(config, start + count, start=start)
  return labelled(found, rater, seed=start)


def with_pairs(
  start: Trained,
  train: Sequence[data.PreferenceRecord],
  held_out: Sequence[data.PreferenceRecord],
) -> Trained:
  """The policy with other pairs of texts of the world."""
  encoded = []
  for records in (train, held_out):
    pairs, truncation = data.encode_pairs(records, start.tokenizer, LIMITS)
    assert not any(cut.cut for cut in truncation.parts.values()), truncation
    encoded.append(pairs)
  return start._replace(
    pairs=dataclasses.replace(
      start.pairs,
      kind="pairs",
      train=encoded[0],
      held_out=encoded[1],
      group_of={r.source: r.group for r in (*train, *held_out)},
      buckets=(max(map(data.pair_length, (*encoded[0], *encoded[1]))),),
    )
  )


def with_sides(
  start: Trained, train: Sequence[data.PreferenceRecord]
) -> Trained:
  """The policy with each response of the pairs as a labelled one."""
  responses, _ = data.encode_binary(
    data.label_by_side(train), start.tokenizer, LIMITS
  )
  other = dataclasses.replace(start.pairs, kind="unpaired", train=responses)
  return start._replace(pairs=other)


class Learner(NamedTuple):
  """How something is learnt from pairs.

  Attributes:
    loss: name of a loss that needs no reference.
    rate: learning rate.
    rows: examples of a batch; two labelled responses count as two.
    epochs: number of epochs.
    scores: whether the loss reads a score head.
  """

  loss: str
  rate: float = 3e-3
  rows: int = 64
  epochs: int = 2
  scores: bool = True


def steps_of(how: Learner, examples: int) -> int:
  """Number of updates."""
  return math.ceil(how.epochs * examples / how.rows)


def learn(start: Trained, how: Learner) -> Params:
  """Trains a copy of the policy, with a head if the loss reads one.

  Returns:
    {"model": ..., "head": ...} with a head, else the policy's parameters.
  """
  loss, entry = losses.resolve(how.loss)
  steps = steps_of(how, len(start.pairs.train))
  optimizer = make_optimizer(
    OptimizerConfig(
      learning_rate=how.rate, warmup_steps=max(1, min(20, steps // 4))
    ),
    steps,
  )
  params, head = start.params, None
  if how.scores:
    head = scalar(start.config.hidden_size)
    params = {"model": params, "head": head.init(jax.random.key(0))}
  objective = make_objective(loss, start.model, head=head)
  update = make_update(objective, optimizer)
  state = init_state(params, optimizer)
  batches = start.pairs.loader(entry.batch, "train", how.rows)
  for _ in range(steps):
    state, _ = update(state, jax.device_put(next(batches).data))
  batches.close()
  return state.params


class Readers(NamedTuple):
  """Functions that score held-out pairs; they compile once per shape.

  Attributes:
    explicit: `(policy with pairs, parameters with a head) -> ScoredPairs`.
    implicit: `(policy with pairs, parameters, reference's scores or None, beta)
      -> ScoredPairs`; without a reference, log-probs are the scores.
  """

  explicit: Callable[[Trained, Params], ScoredPairs]
  implicit: Callable[[Trained, Params, PairScores | None, float], ScoredPairs]


def readers(start: Trained) -> Readers:
  """Makes functions that score pairs by models of the policy's shape."""
  score = make_scored_pairs(start.model, scalar(start.config.hidden_size))
  mesh = make_mesh(devices=jax.devices()[:1])

  def explicit(of: Trained, params: Params) -> ScoredPairs:
    return in_order(score(params, of.pairs, 64, mesh), of)

  def implicit(
    of: Trained, params: Params, ref: PairScores | None, beta: float
  ) -> ScoredPairs:
    own = of.score(params, "eval")
    gap = own.chosen - own.rejected
    if ref is not None:
      gap = gap - (ref.chosen - ref.rejected)
    rows = of.pairs.rows("pairs", "eval")
    known = [1.0 if r.preference is None else r.preference for r in rows]
    exact = None if rows[0].preference is None else np.array(known)
    pairs = from_margins(
      beta * gap,
      labels=np.array(known),
      exact=exact,
      chosen_tokens=own.chosen_tokens,
      rejected_tokens=own.rejected_tokens,
      groups=of.pairs.groups(own.sources),
    )
    return dataclasses.replace(pairs, sources=own.sources)

  return Readers(explicit, implicit)


def in_order(pairs: ScoredPairs, of: Trained) -> ScoredPairs:
  """The scored pairs in the order of the records that were held out."""
  place = {source: i for i, source in enumerate(pairs.sources)}
  rows = of.pairs.rows("pairs", "eval")
  return pairs.take([place[row.source] for row in rows])


def difference(a: ScoredPairs, b: ScoredPairs) -> Mean:
  """Accuracy of `a` less that of `b` on the same pairs, pair by pair.

  Raises:
    ValueError: the two scored different pairs.
  """
  if tuple(a.sources) != tuple(b.sources):
    raise ValueError("the two scored different pairs")
  gain = agreement(a.margins, a.labels) - agreement(b.margins, b.labels)
  return clustered_mean(gain, a.groups)


def told(mean: Any, signed: bool = False) -> str:
  """A share in per cent with half of its interval."""
  low, high = mean.interval
  sign = "+" if signed else ""
  return f"{100 * mean.mean:{sign}.1f} ± {50 * (high - low):.1f}"


def rows_of(cells: Sequence[Sequence[str]]) -> str:
  """A table in Markdown; the first row is the header."""
  rows = [cells[0], ("---",) * len(cells[0]), *cells[1:]]
  return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def by_size(
  scores: Mapping[int, ScoredPairs], of: Callable[[ScoredPairs], Mean]
) -> str:
  """A statistic at every number of training pairs."""
  return ", ".join(f"{n:,}: {told(of(pairs))}" for n, pairs in scores.items())
