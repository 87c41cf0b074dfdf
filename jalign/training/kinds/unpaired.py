"""Labelled single responses, with responses to other prompts beside them."""

import jax

from jalign import data
from jalign.errors import UserError
from jalign.training.kinds.kind import (
  Arrays,
  Kind,
  Reading,
  Sums,
  mean,
  optional,
)
from jalign.training.outputs import Outputs, counts_of
from jalign.types import Array, UnpairedBatch


def _arrays(
  outputs: Outputs, batch: UnpairedBatch, names: tuple[str, ...]
) -> Arrays:
  arrays: Arrays = {
    "logps": outputs.sums(),
    "lengths": counts_of(batch.sequences),
    "desirable": batch.desirable,
    "valid": batch.weights > 0,
  }
  if outputs.needs_reference:
    arrays["ref_logps"] = outputs.ref_sums()
  if "mismatched_logps" in names or "ref_mismatched_logps" in names:
    rows = optional(batch, ("mismatched",), ("mismatched",))["mismatched"]
    # Their mean is a constant of the loss, without gradient or activations.
    arrays["mismatched_logps"] = jax.lax.stop_gradient(outputs.sums_of(rows))
    arrays["ref_mismatched_logps"] = outputs.ref_sums_of(rows)
    arrays |= {
      name: value
      for name in ("mismatched_cut", "unmatched")
      if (value := getattr(batch, name)) is not None
    }
  return arrays | optional(batch, names, ("desirable_rate",))


def _observe(arrays: Arrays, weights: Array) -> Sums:
  good = weights * arrays["desirable"]
  sides = {"desirable": good, "undesirable": weights - good}
  metrics = {
    f"{side}_logps_nats": mean(arrays["logps"], rows)
    for side, rows in sides.items()
  }
  metrics["desirable_share"] = (good.sum(), weights.sum())
  metrics["response_tokens"] = mean(arrays["lengths"], weights)
  if "ref_logps" in arrays:
    ratio = arrays["logps"] - arrays["ref_logps"]
    metrics |= {
      f"{side}_log_ratio_nats": mean(ratio, rows)
      for side, rows in sides.items()
    }
  if "ref_mismatched_logps" in arrays:
    ratio = arrays["mismatched_logps"] - arrays["ref_mismatched_logps"]
    metrics["mismatched_log_ratio_nats"] = mean(ratio, weights)
  if "mismatched_cut" in arrays:
    metrics["mismatched_cut_tokens"] = mean(arrays["mismatched_cut"], weights)
  if "unmatched" in arrays:
    metrics["unmatched_share"] = mean(arrays["unmatched"], weights)
  return metrics


def _options(examples, part):
  # Spare responses serve batches whose rows all have one prompt.
  return {"spare": data.spare_responses(examples(part))}


def _check(title, names, examples) -> None:
  labels = {bool(example.desirable) for example in examples}
  if "desirable" in names and len(labels) < 2:
    said = "desirable" if True in labels else "undesirable"
    raise UserError(
      f"{title} tells desirable responses from others, and all {len(examples)}"
      f" responses to train on are {said}.",
      where="data",
      remedy="Give responses of both labels, or imitate desirable ones: the"
      " source 'demonstrations' with the loss 'sft'.",
    )
  if "mismatched_logps" in names and len(data.spare_responses(examples)) < 2:
    raise UserError(
      f"{title} pairs prompts with responses to other prompts, and all"
      f" {len(examples)} responses to train on have one prompt.",
      where="data",
      remedy="Give responses to more prompts, or choose another loss.",
    )


_LABELLED = Reading(
  data.collate_unpaired, data.binary_length, options=_options, check=_check
)
UNPAIRED = Kind(
  name="unpaired",
  about="a response and whether it is desirable",
  gives={
    "logps": "B",
    "ref_logps": "B",
    "lengths": "B",
    "desirable": "B bool",
    "mismatched_logps": "B",
    "ref_mismatched_logps": "B",
    "desirable_rate": "B",
    "valid": "B bool",
  },
  arrays=_arrays,
  observe=_observe,
  counts={"tokens": lambda batch: counts_of(batch.sequences)},
  records={
    "unpaired": _LABELLED,
    "pairs": _LABELLED._replace(view=data.pairs_as_binary),
  },
  online=("desirable_rate",),
  precomputed=("ref_logps",),
)
