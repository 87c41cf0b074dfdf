"""From a batch and parameters to the arrays that losses take, by batch kind.

Each kind has a function `(score, data, names) -> arrays` that computes what the
names ask for, and no more.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jalign import losses
from jalign.errors import UserError
from jalign.logprobs import token_logprobs
from jalign.logprobs.candidates import candidate_logprobs
from jalign.training.scores import Scores, counts_of
from jalign.types import (
  Array,
  ListBatch,
  PairBatch,
  SequenceBatch,
  UnpairedBatch,
)

Arrays = dict[str, Array]


def _optional(
  data: Any, names: tuple[str, ...], among: tuple[str, ...]
) -> dict[str, Any]:
  """The arrays that a batch may hold."""
  arrays = {}
  for name in among:
    if name not in names:
      continue
    arrays[name] = getattr(data, name)
    if arrays[name] is None:
      raise UserError(
        f"the loss takes {name}, which the data doesn't hold.",
        where="loss",
        remedy=f"Give every record a {name!r} field, or choose another loss.",
      )
  return arrays


# ------------------------------------------------------------- by batch kind


def _split(rows: Array) -> tuple[Array, Array]:
  """Interleaved [2P, ...] -> chosen and rejected [P, ...]."""
  both = rows.reshape(-1, 2, *rows.shape[1:])  # a pair stays on its shard
  return both[:, 0], both[:, 1]


def pairs(score: Scores, data: PairBatch, names: tuple[str, ...]) -> Arrays:
  arrays: Arrays = {"valid": data.weights > 0}

  def put(suffix: str, rows: Array, prefix: str = "") -> None:
    chosen, rejected = _split(rows)
    arrays[f"{prefix}chosen_{suffix}"] = chosen
    arrays[f"{prefix}rejected_{suffix}"] = rejected

  put("lengths", counts_of(data.sequences))
  tokens = score.tokens(data.sequences)
  put("logps", jnp.sum(tokens, -1))
  mask = data.sequences.mask[:, 1:]
  if "chosen_shared_logps" in names:
    put("shared_logps", losses.shared_logps(tokens, mask))
  if score.needs_reference:
    put("logps", score.ref_sums(data.sequences), "ref_")
  if "ref_chosen_shared_logps" in names:
    shared = losses.shared_logps(score.tokens(data.sequences, True), mask)
    put("shared_logps", shared, "ref_")
  if "chosen_collision_logps" in names:
    put("collision_logps", score.collisions(data.sequences))
  return arrays | _optional(
    data, names, ("chosen_scores", "rejected_scores", "preference")
  )


def lists(score: Scores, data: ListBatch, names: tuple[str, ...]) -> Arrays:
  shape = data.scores.shape
  arrays = {
    "logps": score.sums(data.sequences).reshape(shape),
    "lengths": counts_of(data.sequences).reshape(shape),
    "scores": data.scores,
    "valid": data.valid & (data.weights > 0)[:, None],
  }
  if score.needs_reference:
    arrays["ref_logps"] = score.ref_sums(data.sequences).reshape(shape)
  return arrays


def unpaired(
  score: Scores, data: UnpairedBatch, names: tuple[str, ...]
) -> Arrays:
  arrays: Arrays = {
    "logps": score.sums(data.sequences),
    "lengths": counts_of(data.sequences),
    "desirable": data.desirable,
    "valid": data.weights > 0,
  }
  if score.needs_reference:
    arrays["ref_logps"] = score.ref_sums(data.sequences)
  if "mismatched_logps" in names or "ref_mismatched_logps" in names:
    rows = _optional(data, ("mismatched",), ("mismatched",))["mismatched"]
    # Their mean is a constant of the loss: no gradient, no activations.
    arrays["mismatched_logps"] = jax.lax.stop_gradient(score.sums(rows))
    arrays["ref_mismatched_logps"] = jnp.sum(score.tokens(rows, True), -1)
    arrays |= {
      name: value
      for name in ("mismatched_cut", "unmatched")
      if (value := getattr(data, name)) is not None
    }
  return arrays | _optional(data, names, ("desirable_rate",))


def sequences(
  score: Scores, data: SequenceBatch, names: tuple[str, ...]
) -> Arrays:
  arrays = {
    "logps": score.sums(data.sequences),
    "lengths": counts_of(data.sequences),
  }
  if score.needs_reference:
    arrays["ref_logps"] = score.ref_sums(data.sequences)
  return arrays | _optional(data, names, ("rewards", "values"))


def tokens(
  score: Scores, data: SequenceBatch, names: tuple[str, ...]
) -> Arrays:
  ids, mask = data.sequences.tokens[:, 1:], data.sequences.mask[:, 1:]
  arrays = {"mask": mask}
  if "candidate_logps" in names:
    hidden, head = score.hidden(data.sequences), score.head()
    logps = token_logprobs(hidden, head, ids)
    arrays["token_logps"] = jnp.where(mask, logps, 0.0)
    arrays["candidate_logps"] = candidate_logprobs(hidden, head, ids, logps)
    arrays["candidate_mask"] = losses.previous_token_candidates(ids, mask)
  else:
    arrays["token_logps"] = score.tokens(data.sequences)
  if "repeats" in names:
    arrays["repeats"] = losses.repeated_ngrams(ids, mask)
  if score.needs_reference:
    arrays["ref_token_logps"] = score.tokens(data.sequences, True)
  return arrays | _optional(data, names, ("rewards", "values", "preference"))


def segments(score: Scores, data: PairBatch, names: tuple[str, ...]) -> Arrays:
  """A pair's responses as the two segments; a step is a token."""
  steps = lambda rows: rows.reshape(-1, 2, rows.shape[-1])
  arrays = {
    "step_logps": steps(score.tokens(data.sequences)),
    "mask": steps(data.sequences.mask[:, 1:]),
    # Where the data has no probability its label is certain.
    "preference": jnp.ones_like(data.weights)
    if data.preference is None
    else data.preference,
  }
  if score.needs_reference:
    arrays["ref_step_logps"] = steps(score.tokens(data.sequences, True))
  return arrays


def ranked_segments(
  score: Scores, data: ListBatch, names: tuple[str, ...]
) -> Arrays:
  steps = lambda rows: rows.reshape(*data.scores.shape, -1)
  arrays = {
    "step_logps": steps(score.tokens(data.sequences)),
    "mask": steps(data.sequences.mask[:, 1:]),
    "scores": data.scores,
    "valid": data.valid & (data.weights > 0)[:, None],
  }
  if score.needs_reference:
    arrays["ref_step_logps"] = steps(score.tokens(data.sequences, True))
  return arrays


MAKERS: Mapping[str, Callable[[Scores, Any, tuple[str, ...]], Arrays]] = {
  "pairs": pairs,
  "lists": lists,
  "unpaired": unpaired,
  "sequences": sequences,
  "tokens": tokens,
  "segments": segments,
  "ranked_segments": ranked_segments,
}
# What a batch of a kind can give a loss; the rest of VOCABULARY comes from
# elsewhere: other models, critics, samples.
GIVEN: Mapping[str, tuple[str, ...]] = {
  "pairs": (
    *(
      f"{ref}{side}_{name}"
      for name in ("logps", "shared_logps")
      for ref in ("", "ref_")
      for side in ("chosen", "rejected")
    ),
    *(
      f"{side}_{name}"
      for name in ("lengths", "scores", "collision_logps")
      for side in ("chosen", "rejected")
    ),
    "preference",
    "valid",
  ),
  "lists": ("logps", "ref_logps", "lengths", "scores", "valid"),
  "unpaired": tuple(losses.VOCABULARY["unpaired"]),
  "sequences": ("logps", "ref_logps", "lengths", "rewards", "values"),
  "tokens": (
    "token_logps",
    "ref_token_logps",
    "candidate_logps",
    "candidate_mask",
    "repeats",
    "rewards",
    "values",
    "preference",
    "mask",
  ),
  "segments": ("step_logps", "ref_step_logps", "preference", "mask"),
  "ranked_segments": tuple(losses.VOCABULARY["ranked_segments"]),
}


def tokens_of(kind: str, data: Any) -> dict[str, Array]:
  """Scored tokens [B] by the name under which a term divides by them."""
  counts = counts_of(data.sequences)
  if kind == "pairs":
    chosen, rejected = _split(counts)
    return {"chosen_lengths": chosen, "rejected_lengths": rejected}
  if kind in ("sequences", "tokens", "unpaired"):
    return {"lengths": counts, "mask": counts}
  total = counts.reshape(data.weights.shape[0], -1).sum(-1)
  return {"lengths": total, "mask": total}
