"""Preference pairs, as sums over responses or as single tokens."""

import jax.numpy as jnp

from jalign import data, losses
from jalign.errors import UserError
from jalign.training.kinds.kind import (
  Arrays,
  Kind,
  Reading,
  Sums,
  mean,
  optional,
  wins,
)
from jalign.training.outputs import Outputs, counts_of
from jalign.types import Array, PairBatch

_FIELDS = {  # array that a batch may hold -> field of a record
  "chosen_scores": "chosen_score",
  "rejected_scores": "rejected_score",
  "preference": "preference",
}


def _split(rows: Array) -> tuple[Array, Array]:
  """Splits interleaved rows [2P, ...] into chosen and rejected [P, ...]."""
  both = rows.reshape(-1, 2, *rows.shape[1:])  # a pair stays on its shard
  return both[:, 0], both[:, 1]


def _arrays(
  outputs: Outputs, batch: PairBatch, names: tuple[str, ...]
) -> Arrays:
  arrays: Arrays = {"valid": batch.weights > 0}

  def put(suffix: str, rows: Array, prefix: str = "") -> None:
    chosen, rejected = _split(rows)
    arrays[f"{prefix}chosen_{suffix}"] = chosen
    arrays[f"{prefix}rejected_{suffix}"] = rejected

  put("lengths", counts_of(batch.sequences))
  tokens = outputs.tokens()
  put("logps", jnp.sum(tokens, -1))
  mask = batch.sequences.mask[:, 1:]
  if "chosen_shared_logps" in names:
    put("shared_logps", losses.shared_logps(tokens, mask))
  if outputs.needs_reference:
    put("logps", outputs.ref_sums(), "ref_")
  if "ref_chosen_shared_logps" in names:
    shared = losses.shared_logps(outputs.ref_tokens(), mask)
    put("shared_logps", shared, "ref_")
  if "chosen_collision_logps" in names:
    put("collision_logps", outputs.collisions())
  if "old_chosen_logps" in names or "old_rejected_logps" in names:
    old = optional(batch, ("old_logps",), ("old_logps",))["old_logps"]
    put("logps", old, "old_")
  arrays |= _of_the_third(outputs, batch, names)
  return arrays | optional(batch, names, tuple(_FIELDS))


def _of_the_third(
  outputs: Outputs, batch: PairBatch, names: tuple[str, ...]
) -> Arrays:
  """Log-probs [P] of the third responses, as far as the loss takes them."""
  taken = [name for name in _BESIDE if name in names]
  if not taken:
    return {}
  third = optional(batch, ("beside",), ("beside",))["beside"]
  under = {True: outputs.ref_sums_of, False: outputs.sums_of}
  return {name: under[name.startswith("ref_")](third) for name in taken}


def _observe(arrays: Arrays, weights: Array) -> Sums:
  of = lambda x: mean(x, weights)
  chosen, rejected = arrays["chosen_logps"], arrays["rejected_logps"]
  metrics = {
    "chosen_logps_nats": of(chosen),
    "rejected_logps_nats": of(rejected),
    "ranking_accuracy": of(wins(chosen - rejected)),
    "chosen_tokens": of(arrays["chosen_lengths"]),
    "rejected_tokens": of(arrays["rejected_lengths"]),
  }
  if "ref_chosen_logps" in arrays:
    up = chosen - arrays["ref_chosen_logps"]
    down = rejected - arrays["ref_rejected_logps"]
    metrics |= {
      "chosen_log_ratio_nats": of(up),
      "rejected_log_ratio_nats": of(down),
      "margin_nats": of(up - down),
      "reward_accuracy": of(wins(up - down)),
    }
  if "old_chosen_logps" in arrays:
    moved = chosen - arrays["old_chosen_logps"]
    moved += rejected - arrays["old_rejected_logps"]
    metrics["old_log_ratio_nats"] = of(moved / 2)
  return metrics


def _check(title, names, pairs) -> None:
  for name in names:
    if name in _FIELDS and getattr(pairs[0], _FIELDS[name]) is None:
      raise UserError(
        f"{title} takes {name}, which the data doesn't hold.",
        where="loss",
        remedy="Give every record this field, or choose another loss.",
      )


_SIDES = ("chosen", "rejected")
_OLD = tuple(f"old_{side}_logps" for side in _SIDES)
# Arrays that losses on a third response take, from `PairBatch.beside`.
_BESIDE = ("explore_logps", "ref_explore_logps", "gold_logps")
_RECORDS = {
  "pairs": Reading(data.collate_pairs, data.pair_length, check=_check)
}
PAIRS = Kind(
  name="pairs",
  about="a preferred and a dispreferred response to one prompt",
  gives={
    **{f"{side}_logps": "B" for side in _SIDES},
    **{f"ref_{side}_logps": "B" for side in _SIDES},
    **{f"{side}_lengths": "B" for side in _SIDES},
    **{f"{side}_scores": "B" for side in _SIDES},
    "preference": "B",
    # Sums over the first min(|y_w|, |y_l|) tokens of either response.
    **{f"{side}_shared_logps": "B" for side in _SIDES},
    **{f"ref_{side}_shared_logps": "B" for side in _SIDES},
    # Sums of log sum_v pi(v)^2 over the response.
    **{f"{side}_collision_logps": "B" for side in _SIDES},
    # False for a pair that only fills the batch; coupled losses take `valid`.
    "valid": "B bool",
    # Log-probs under the policy that drew the responses.
    **dict.fromkeys(_OLD, "B"),
    # Log-probs of a response beside the pair, an older policy's or a model one.
    **dict.fromkeys(_BESIDE, "B"),
  },
  arrays=_arrays,
  observe=_observe,
  counts={"chosen_tokens": lambda batch: _split(counts_of(batch.sequences))[0]},
  elsewhere={
    # Margin rewards of M other objectives.
    "chosen_margin_scores": "BM",
    "rejected_margin_scores": "BM",
    # Log-probs of the reason for a preference, behind the pair.
    "rationale_logps": "B",
  },
  records=_RECORDS,
  online=(*_OLD, *_BESIDE),
  precomputed=("ref_chosen_logps", "ref_rejected_logps"),
  several=True,
  paired=True,
)


# ------------------------------------------------------------------- segments


def _segment_arrays(
  outputs: Outputs, batch: PairBatch, names: tuple[str, ...]
) -> Arrays:
  del names
  steps = lambda rows: rows.reshape(-1, 2, rows.shape[-1])
  arrays = {
    "step_logps": steps(outputs.tokens()),
    "mask": steps(batch.sequences.mask[:, 1:]),
    # Where the data has no probability, the label counts as certain.
    "preference": jnp.ones_like(batch.weights)
    if batch.preference is None
    else batch.preference,
  }
  if outputs.needs_reference:
    arrays["ref_step_logps"] = steps(outputs.ref_tokens())
  return arrays


def _observe_segments(arrays: Arrays, weights: Array) -> Sums:
  """Metrics as for pairs; the first segment is the chosen response."""
  summed = {}
  for prefix in ("", "ref_"):
    if f"{prefix}step_logps" in arrays:
      first, second = jnp.sum(arrays[f"{prefix}step_logps"], -1).T
      summed[f"{prefix}chosen_logps"] = first
      summed[f"{prefix}rejected_logps"] = second
  first, second = jnp.sum(arrays["mask"], -1).T
  summed |= {"chosen_lengths": first, "rejected_lengths": second}
  return _observe(summed, weights)


SEGMENTS = Kind(
  name="segments",
  # The segments are a pair's responses; a step is a token.
  about="two segments of steps",
  gives={
    "step_logps": "B2T",
    "ref_step_logps": "B2T",
    "preference": "B",
    "mask": "B2T bool",
  },
  arrays=_segment_arrays,
  observe=_observe_segments,
  counts={
    "tokens": lambda batch: counts_of(batch.sequences).reshape(-1, 2).sum(-1)
  },
  elsewhere={"step_rewards": "B2T", "step_advantages": "B2T"},
  records=_RECORDS,
  several=True,
  paired=True,
)
