"""Aligns an SFT policy by a loss on pairs: a plain loop that records curves."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.papers.policies import Trained
from jalign import losses
from jalign.evaluation.likelihood import PairScores
from jalign.training import (
  OptimizerConfig,
  combine,
  init_state,
  make_objective,
  make_optimizer,
  make_update,
  reference,
)
from jalign.types import Params

Measure = Callable[[Params], Mapping[str, float]]


class Course(NamedTuple):
  """The course of a training.

  Attributes:
    params: parameters at the end.
    steps: [N] number of updates before each measurement.
    values: name -> [N]; "loss" is the mean training loss since the measurement
      before.
  """

  params: Params
  steps: np.ndarray
  values: dict[str, np.ndarray]


def align(
  start: Trained,
  ref: PairScores,
  name: str,
  settings: Mapping[str, Any],
  *,
  steps: int,
  learning_rate: float,
  batch_size: int = 64,
  every: int = 0,
  measure: Measure = lambda params: {},
) -> Course:
  """Trains a copy of a policy on its pairs; the policy itself is the reference.

  The learning rate is constant after ten steps, so that a curve that turns has
  not been turned by a schedule.

  Args:
    start: the policy.
    ref: the policy's log-probs of the training pairs.
    name: name of a loss on pairs, or of a preset.
    settings: hyperparameters of the loss.
    steps: number of updates.
    learning_rate: learning rate of AdamW.
    batch_size: pairs per batch.
    every: updates between measurements, the first of which comes before any
      update; 0 measures once, at the end.
    measure: parameters -> measurements.
  """
  loss, _ = losses.resolve(name, **settings)
  config = OptimizerConfig(
    learning_rate=learning_rate, schedule="constant", warmup_steps=10
  )
  optimizer = make_optimizer(config, steps)
  update = make_update(make_objective(loss, start.model), optimizer)
  state = init_state(start.params, optimizer)
  table = dict(zip(ref.sources, np.stack([ref.chosen, ref.rejected], 1)))
  batches = start.pairs.loader("pairs", "train", batch_size)
  sums: list[Any] = []
  rows: list[dict[str, float]] = []
  at: list[int] = []
  for step in range(steps + 1):
    if step == steps or (every and step % every == 0):
      mean = combine(sums).get("loss", np.nan)
      rows.append({"loss": mean, **measure(state.params)})
      at.append(step)
      sums = []
    if step < steps:
      batch = next(batches)
      data = reference.attach(batch.data, batch.sources, table)
      state, step_sums = update(state, jax.device_put(data))
      sums.append(jax.device_get(step_sums))
  batches.close()
  values = {key: np.array([row[key] for row in rows]) for key in rows[0]}
  return Course(state.params, np.array(at), values)
