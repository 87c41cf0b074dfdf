"""What a score head says of labelled pairs, and the file that keeps it."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jalign.data import ScoreBatch
from jalign.evaluation import (
  Objectives,
  ScoredPairs,
  from_margins,
  from_scores,
  objectives,
)
from jalign.experiment.data.dataset import Dataset
from jalign.experiment.disk import folder as folders
from jalign.models.preferences import FORMS
from jalign.sharding import fetch, place
from jalign.training import packed
from jalign.training.kinds import SCORES
from jalign.training.progress import follow
from jalign.training.trainable import HEAD, MODEL
from jalign.types import Model, Params

FILE = "rewards.json"


class Kept(NamedTuple):
  """What a report shows of a stage that trained a score head.

  Attributes:
    pairs: the head's numbers on the held-out pairs; None for data or heads of
      another kind.
    objectives: how a head of several objectives orders them, or None.
  """

  pairs: ScoredPairs | None
  objectives: Objectives | None


def serves(dataset: Dataset, head: Any) -> bool:
  """Whether the data are pairs or lists that the head gives one number."""
  able = (head.score, head.compare, head.embed)
  paired = dataset.kind in ("pairs", "lists")
  return paired and any(f is not None for f in able)


def make_scored_pairs(
  model: Model,
  head: Any,
  *,
  form: str = "",
  constant: float = 0.0,
  sign: float = 1.0,
) -> Callable[..., ScoredPairs]:
  """Makes `(params, dataset, batch_size, mesh) -> ScoredPairs`.

  The function scores all held-out pairs of a dataset; of ranked lists, all
  pairs whose ranks differ. It compiles once per shape.

  Args:
    model: functions of the model below the head.
    head: functions of the head.
    form: form of the head's preferences, a key of
      `jalign.models.preferences.FORMS`; "" where the head gives scores.
    constant: number that is subtracted from every score.
    sign: -1 where a lower score is better; see `heads.sign_of`.
  """
  measure = _measure(model, head, form)

  def score(
    params: Params, dataset: Dataset, batch_size: int, mesh: Any
  ) -> ScoredPairs:
    batches = dataset.loader(
      SCORES, "eval", batch_size, epochs=1, shuffle=False
    )
    told: dict[str, list[np.ndarray]] = {}
    groups: list[str] = []
    sources: list[str] = []
    for batch in follow(batches, "scores of held-out pairs", "batch"):
      found = {
        name: np.asarray(x, np.float64)
        for name, x in fetch(measure(params, place(batch.data, mesh))).items()
      }
      rows = _pairs_of(batch.data, found)
      for name, values in rows.items():
        told.setdefault(name, []).append(values)
      own = dataset.groups(batch.sources)
      groups += [own[i] for i in rows["example"].tolist()]
      sources += [batch.sources[i] for i in rows["example"].tolist()]
    columns = {name: np.concatenate(parts) for name, parts in told.items()}
    known: dict[str, Any] = {
      "labels": columns["label"],
      "exact": exact_of(columns["label"]),
      "chosen_tokens": columns["chosen_tokens"],
      "rejected_tokens": columns["rejected_tokens"],
      "groups": groups,
    }
    if "margin" in columns:
      pairs = from_margins(columns["margin"], **known)
    else:
      sides = (columns[n] - constant for n in ("chosen", "rejected"))
      pairs = from_scores(*sides, scale=sign, **known)
    return dataclasses.replace(pairs, sources=tuple(sources))

  return score


def objectives_of(
  model: Model,
  head: Any,
  params: Params,
  dataset: Dataset,
  batch_size: int,
  mesh: Any,
) -> Objectives | None:
  """How a head of several objectives orders the held-out pairs of each.

  Args:
    model: functions of the model below the head.
    head: functions of the head.
    params: {"model": ..., "head": ...}.
    dataset: the data.
    batch_size: pairs of a batch.
    mesh: the mesh that the parameters lie on.

  Returns:
    None for a head of another kind, or for data without objectives.
  """
  if dataset.kind != "pairs" or getattr(head, "scores", None) is None:
    return None

  @jax.jit
  def measure(params: Params, batch: ScoreBatch) -> Any:
    states = packed.last_states(model, params[MODEL], batch.sequences)
    scores = head.scores(params[HEAD], states)
    return scores[0::2] - scores[1::2]

  margins, labels, groups = [], [], []
  names: tuple[str, ...] = ()
  batches = dataset.loader(SCORES, "eval", batch_size, epochs=1, shuffle=False)
  for batch in follow(batches, "scores by objectives", "batch"):
    data = batch.data
    if data.objective is None or data.objective_preferences is None:
      return None
    live = np.asarray(data.weights) > 0
    found = fetch(measure(params, place(data, mesh)))
    margins.append(np.asarray(found, np.float64)[live])
    told = np.asarray(data.objective_preferences, np.float64)
    labels.append(np.where(np.asarray(data.objective) > 0, told, np.nan)[live])
    groups += dataset.groups(batch.sources)
    names = data.names
  return objectives(
    np.concatenate(margins), np.concatenate(labels), names, groups
  )


def write(path: pathlib.Path, pairs: ScoredPairs) -> None:
  """Writes the numbers of pairs as columns of a JSON file."""
  columns: dict[str, Any] = {
    "source": pairs.sources,
    "group": pairs.groups,
    "chosen_score": pairs.chosen,
    "rejected_score": pairs.rejected,
    "margin": pairs.margins,
    "label": pairs.labels,
    "chosen_tokens": pairs.chosen_tokens,
    "rejected_tokens": pairs.rejected_tokens,
  }
  folders.write_json(
    path,
    {
      name: np.asarray(values).tolist()
      for name, values in columns.items()
      if values is not None
    },
  )


def _measure(model: Model, head: Any, form: str) -> Callable[..., Any]:
  """Jits `(params, batch) -> {"scores": [B, K]}`, or {"margin": [B]}."""

  @jax.jit
  def measure(params: Params, batch: ScoreBatch) -> dict[str, Any]:
    states = packed.last_states(model, params[MODEL], batch.sequences)
    if form:
      sides = states[0::2], states[1::2]
      return {"margin": FORMS[form](head, params[HEAD], *sides)}
    scores = head.score(params[HEAD], states)
    return {"scores": scores.reshape(batch.ranks.shape)}

  return measure


def _pairs_of(
  batch: ScoreBatch, found: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """Columns of a batch's pairs; `example` is a pair's place among live ones."""
  ranks, valid = np.asarray(batch.ranks), np.asarray(batch.valid)
  live = np.asarray(batch.weights) > 0
  tokens = np.asarray(batch.sequences.mask).sum(-1).reshape(ranks.shape)
  ordered = ranks[:, :, None] < ranks[:, None, :]
  ordered &= valid[:, :, None] & valid[:, None, :] & live[:, None, None]
  at, better, worse = np.nonzero(ordered)
  label = (
    np.ones(len(live))
    if batch.preference is None
    else np.asarray(batch.preference, np.float64)
  )
  columns = {
    "example": (np.cumsum(live) - 1)[at],
    "label": label[at],
    "chosen_tokens": tokens[at, better],
    "rejected_tokens": tokens[at, worse],
  }
  if "scores" in found:
    scores = found["scores"]
    columns |= {"chosen": scores[at, better], "rejected": scores[at, worse]}
  else:
    columns["margin"] = found["margin"][at]
  return columns


def exact_of(labels: np.ndarray) -> np.ndarray | None:
  """The labels if they are probabilities; None if all labels are certain.

  No scorer predicts labels better than their probabilities do.
  """
  return labels if ((labels > 0) & (labels < 1)).any() else None
