"""Lists of scored responses, as sums over responses or as single tokens."""

import jax.numpy as jnp

from jalign import data
from jalign.training.kinds.kind import Arrays, Kind, Reading, Sums, mean, wins
from jalign.training.outputs import Outputs, counts_of
from jalign.types import Array, ListBatch


def live(batch) -> Array:
  """[B, K] bool, True for responses that count, in a batch of lists."""
  return batch.valid & (batch.weights > 0)[:, None]


def tokens(batch) -> Array:
  """[B] scored tokens of a list's valid responses."""
  counts = counts_of(batch.sequences).reshape(batch.valid.shape)
  return jnp.sum(jnp.where(batch.valid, counts, 0.0), -1)


def list_options(examples, part) -> dict[str, int]:
  """Option `size`: K, the longest list's responses in either part."""
  del part
  return {"size": data.list_size([*examples("train"), *examples("eval")])}


def _arrays(
  outputs: Outputs, batch: ListBatch, names: tuple[str, ...]
) -> Arrays:
  del names
  shape = batch.scores.shape
  arrays = {
    "logps": outputs.sums().reshape(shape),
    "lengths": counts_of(batch.sequences).reshape(shape),
    "scores": batch.scores,
    "valid": live(batch),
  }
  if outputs.needs_reference:
    arrays["ref_logps"] = outputs.ref_sums().reshape(shape)
  return arrays


def _observe(arrays: Arrays, weights: Array) -> Sums:
  """Metrics of lists; accuracies are over pairs whose scores differ."""
  valid, scores = arrays["valid"], arrays["scores"]
  counted = valid * weights[:, None]
  best = jnp.argmax(jnp.where(valid, scores, -jnp.inf), -1)[:, None]
  pick = lambda x: jnp.take_along_axis(x, best, -1)[:, 0]
  ordered = (scores[:, :, None] > scores[:, None, :]) & (
    valid[:, :, None] & valid[:, None, :]
  )
  ordered = ordered * weights[:, None, None]
  accuracy = lambda x: mean(wins(x[:, :, None] - x[:, None, :]), ordered)
  logps = arrays["logps"]
  metrics = {
    "logps_nats": mean(logps, counted),
    "best_logps_nats": mean(pick(logps), weights),
    "ranking_accuracy": accuracy(logps),
    "responses_count": (jnp.sum(counted), jnp.sum(weights)),
    "response_tokens": mean(arrays["lengths"], counted),
  }
  if "ref_logps" in arrays:
    ratio = logps - arrays["ref_logps"]
    metrics |= {
      "log_ratio_nats": mean(ratio, counted),
      "best_log_ratio_nats": mean(pick(ratio), weights),
      "reward_accuracy": accuracy(ratio),
    }
  return metrics


_RECORDS = {
  "lists": Reading(data.collate_lists, data.list_length, options=list_options),
  "pairs": Reading(
    data.collate_lists,
    data.list_length,
    data.pairs_as_lists,
    options=list_options,
  ),
}
LISTS = Kind(
  name="lists",
  about="K responses to one prompt, scored or ranked",
  gives={
    "logps": "BK",
    "ref_logps": "BK",
    "lengths": "BK",
    "scores": "BK",
    "valid": "BK bool",
  },
  arrays=_arrays,
  observe=_observe,
  counts={"tokens": tokens},
  records=_RECORDS,
  precomputed=("ref_logps",),
  several=True,
)


# ------------------------------------------------------------ ranked segments


def _segment_arrays(
  outputs: Outputs, batch: ListBatch, names: tuple[str, ...]
) -> Arrays:
  del names
  steps = lambda rows: rows.reshape(*batch.scores.shape, -1)
  arrays = {
    "step_logps": steps(outputs.tokens()),
    "mask": steps(batch.sequences.mask[:, 1:]),
    "scores": batch.scores,
    "valid": live(batch),
  }
  if outputs.needs_reference:
    arrays["ref_step_logps"] = steps(outputs.ref_tokens())
  return arrays


def _observe_segments(arrays: Arrays, weights: Array) -> Sums:
  summed = {
    "logps": jnp.sum(arrays["step_logps"], -1),
    "lengths": jnp.sum(arrays["mask"], -1),
    "scores": arrays["scores"],
    "valid": arrays["valid"],
  }
  if "ref_step_logps" in arrays:
    summed["ref_logps"] = jnp.sum(arrays["ref_step_logps"], -1)
  return _observe(summed, weights)


RANKED_SEGMENTS = Kind(
  name="ranked_segments",
  # The segments are a list's responses; a step is a token.
  about="K segments of steps, scored",
  gives={
    "step_logps": "BKT",
    "ref_step_logps": "BKT",
    "scores": "BK",
    "valid": "BK bool",
    "mask": "BKT bool",
  },
  arrays=_segment_arrays,
  observe=_observe_segments,
  counts={"tokens": tokens},
  records=_RECORDS,
  several=True,
)
