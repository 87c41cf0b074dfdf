"""What a model's score head gives for ranked responses or for pairs."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jalign import data
from jalign.errors import UserError
from jalign.losses import general_preference_score
from jalign.training.kinds.kind import (
  Arrays,
  Kind,
  Reading,
  Sums,
  mean,
  optional,
  wins,
)
from jalign.training.kinds.lists import list_options, live, tokens
from jalign.training.outputs import Outputs
from jalign.types import Array, ScoreBatch

_HEAD = {  # array -> function of the head that gives it
  "chosen_scores": "score",
  "rejected_scores": "score",
  "scores": "score",
  "logits": "compare",
  "swapped_logits": "compare",
  "first_embeddings": "embed",
  "second_embeddings": "embed",
}
_LISTED = ("scores", "ranks", "valid")  # other arrays are of two responses


def _arrays(
  outputs: Outputs, batch: ScoreBatch, names: tuple[str, ...]
) -> Arrays:
  size = batch.valid.shape[1]
  of_pairs = [name for name in names if name not in _LISTED]
  if of_pairs and size != 2:
    raise UserError(
      f"the loss takes {', '.join(of_pairs)}, of two responses, and the batch"
      f" has {size} responses to a prompt.",
      where="loss",
      remedy="Give the loss pairs, or choose a loss on scores of lists.",
    )
  head, params = outputs.score_head()
  rows = outputs.features()
  arrays: Arrays = {
    "ranks": batch.ranks,
    "valid": live(batch),
    # Where the data has no probability, the label counts as certain.
    "preference": jnp.ones_like(batch.weights)
    if batch.preference is None
    else batch.preference,
  }
  asked = {_HEAD[name] for name in names if name in _HEAD}
  if "score" in asked:
    arrays["scores"] = scores = head.score(params, rows).reshape(-1, size)
    if size == 2:
      arrays["chosen_scores"], arrays["rejected_scores"] = scores.T
  if "compare" in asked:
    first, second = rows[0::2], rows[1::2]
    arrays["logits"] = head.compare(params, first, second)
    arrays["swapped_logits"] = head.compare(params, second, first)
  if "embed" in asked:
    vectors = head.embed(params, rows)
    arrays["first_embeddings"] = vectors[0::2]
    arrays["second_embeddings"] = vectors[1::2]
  return arrays | optional(batch, names, ("margin",))


def _observe(arrays: Arrays, weights: Array) -> Sums:
  """Metrics of scores; accuracies are over pairs whose ranks differ."""
  metrics: Sums = {}
  if "scores" in arrays:
    scores, ranks, valid = (arrays[n] for n in ("scores", "ranks", "valid"))
    ordered = (ranks[:, :, None] < ranks[:, None, :]) & (
      valid[:, :, None] & valid[:, None, :]
    )
    gaps = scores[:, :, None] - scores[:, None, :]
    metrics["score_mean"] = mean(scores, valid * weights[:, None])
    metrics["score_accuracy"] = mean(
      wins(gaps), ordered * weights[:, None, None]
    )
  if "logits" in arrays:
    gap = arrays["logits"] - arrays["swapped_logits"]
    metrics["score_accuracy"] = mean(wins(gap), weights)
  if "first_embeddings" in arrays:
    gap = general_preference_score(
      arrays["first_embeddings"], arrays["second_embeddings"]
    )
    metrics["score_accuracy"] = mean(wins(gap), weights)
  return metrics


def _of_pairs(encoded, rows, length, **options) -> ScoreBatch:
  """`collate_pairs`, with the difference of the records' scores as margin."""
  pairs = data.collate_pairs(encoded, rows, length, **options)
  margin = None
  if pairs.chosen_scores is not None and pairs.rejected_scores is not None:
    margin = pairs.chosen_scores - pairs.rejected_scores
  places: Any = np.tile(np.array([1, 2], np.float32), (rows, 1))
  both: Any = np.ones((rows, 2), bool)
  return ScoreBatch(
    pairs.sequences,
    pairs.weights,
    ranks=places,
    valid=both,
    preference=pairs.preference,
    margin=margin,
  )


def _of_lists(encoded, rows, length, **options) -> ScoreBatch:
  """`collate_lists`, with ranks in place of scores; rank 1 is the best."""
  lists = data.collate_lists(encoded, rows, length, **options)
  scores, valid = np.asarray(lists.scores), np.asarray(lists.valid)
  better = (scores[:, None, :] > scores[:, :, None]) & valid[:, None, :]
  places: Any = 1 + better.sum(-1, dtype=np.float32)
  return ScoreBatch(lists.sequences, lists.weights, places, lists.valid)


def _best_first(lists: Sequence[data.EncodedList]) -> list[data.EncodedList]:
  """The lists, with their responses in the order of their scores."""
  ordered = []
  for record in lists:
    order = np.argsort(-record.scores, kind="stable")
    ordered.append(
      dataclasses.replace(
        record,
        responses=tuple(record.responses[i] for i in order),
        scores=record.scores[order],
      )
    )
  return ordered


SCORES = Kind(
  name="scores",
  about="what a reward model says of a pair",
  gives={
    "chosen_scores": "B",
    "rejected_scores": "B",
    "margin": "B",
    "preference": "B",
    "logits": "B",
    "swapped_logits": "B",
    "first_embeddings": "BZ",
    "second_embeddings": "BZ",
    # A reward model's scores of a ranked list; rank 1 is the best.
    "scores": "BK",
    "ranks": "BK",
    "valid": "BK bool",
  },
  arrays=_arrays,
  observe=_observe,
  counts={"tokens": tokens},
  elsewhere={
    "harmful_costs": "B",
    "harmless_costs": "B",
    "harmful_unsafe": "B bool",
    "harmless_unsafe": "B bool",
    "chosen_objective_scores": "BM",
    "rejected_objective_scores": "BM",
    "objective_preferences": "BM",
    "objective": "BM",
    "objective_scores": "BM",
    "response_scores": "B",
    "desirable": "B bool",
    "ratings": "BM",
    "rated": "BM bool",
    "feature_gaps": "BD",
    "chosen_features": "BD",
    "rejected_features": "BD",
    "chosen_views": "BD",
    "rejected_views": "BD",
    "chosen_critique_logps": "B",
    "rejected_critique_logps": "B",
    "chosen_critique_lengths": "B",
    "rejected_critique_lengths": "B",
  },
  records={
    "pairs": Reading(_of_pairs, data.pair_length),
    "lists": Reading(
      _of_lists,
      data.list_length,
      _best_first,
      options=list_options,
      lacks=("margin", "preference"),
    ),
  },
  head=_HEAD,
  several=True,
)
