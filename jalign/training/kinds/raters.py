"""Pairs with the rater who labelled them, for heads that know the rater.

RATERS brings a rater's other pairs beside a pair, from which a head infers the
rater; RATER_PAIRS brings the rater's number alone.
"""

from typing import Any

import jax.numpy as jnp

from jalign import data
from jalign.errors import UserError
from jalign.training.kinds.kind import (
  Arrays,
  Kind,
  Reading,
  Sums,
  mean,
  wins,
)
from jalign.training.kinds.rater_batch import (
  RaterBatch,
  collate_numbered,
  collate_rated,
  numbers_of,
  pools_of,
  rated,
)
from jalign.training.outputs import Outputs
from jalign.types import Array

ACTIVE_NATS = 0.01  # a coordinate with a larger KL carries information

_HEAD = {  # array -> function of the head that gives it
  "chosen_scores": "score_as",
  "rejected_scores": "score_as",
  "latent_means": "infer",
  "latent_log_variances": "infer",
  "rater_weights": "weights",
}


# --------------------------------------------------------------------- arrays


def _arrays(
  outputs: Outputs, batch: RaterBatch, names: tuple[str, ...]
) -> Arrays:
  del names
  own: Any = outputs.score_head()
  head, params = own
  size = len(batch.weights)
  prompts = None
  if head.reads_prompts:
    rows, before = outputs.features_and_prompts()
    prompts = before.reshape(size, -1, before.shape[-1])[:, 0]
  else:
    rows = outputs.features()
  pairs = rows.reshape(size, -1, 2, rows.shape[-1])
  arrays: Arrays = {
    "valid": batch.weights > 0,
    # Where the data has no probability, the label counts as certain.
    "preference": jnp.ones_like(batch.weights)
    if batch.preference is None
    else batch.preference,
  }
  if head.infer is not None:
    assert batch.context is not None
    arrays["context_pairs"] = jnp.sum(batch.context, 1)
    latent = head.infer(params, pairs[:, 1:, 0], pairs[:, 1:, 1], batch.context)
    arrays["latent_means"] = latent.mean
    arrays["latent_log_variances"] = latent.log_variance
    vectors = head.draw(latent, batch.seeds)
  else:
    raters: Any = batch.raters
    vectors = head.weights(params, raters)
    arrays["rater_weights"] = vectors
    arrays["unseen"] = raters < 0
  scores = head.score_as(params, pairs[:, 0], vectors, prompts)
  arrays["chosen_scores"], arrays["rejected_scores"] = scores.T
  return arrays


def _observe(arrays: Arrays, weights: Array) -> Sums:
  won = wins(arrays["chosen_scores"] - arrays["rejected_scores"])
  metrics = {"score_accuracy": mean(won, weights)}
  if "latent_means" in arrays:
    m, lv = arrays["latent_means"], arrays["latent_log_variances"]
    nats = (jnp.exp(lv) + m**2 - 1 - lv) / 2
    metrics["latent_kl_nats"] = mean(jnp.sum(nats, -1), weights)
    active = jnp.sum(nats > ACTIVE_NATS, -1).astype(weights.dtype)
    metrics["latent_active_count"] = mean(active, weights)
    count = arrays["context_pairs"]
    metrics["context_pairs_count"] = mean(count, weights)
    for name, few in (
      ("no_context", count == 0),
      ("some_context", count > 0),
    ):
      metrics[f"score_accuracy_{name}"] = mean(won, weights * few)
  if "rater_weights" in arrays:
    share = arrays["rater_weights"]
    metrics["rater_weight_max"] = mean(jnp.max(share, -1), weights)
    metrics["unseen_raters_share"] = mean(arrays["unseen"], weights)
  return metrics


def _check(title, names, pairs) -> None:
  del names
  lacking = [pair.source for pair in pairs if pair.rater is None]
  if lacking:
    raise UserError(
      f"{title} needs to know who labelled a pair, and {len(lacking)} of"
      f" {len(pairs)} pairs have no 'rater', the first at {lacking[0]}.",
      where="data",
      remedy="Give every record a 'rater', a name.",
    )


def _check_others(title, names, pairs) -> None:
  _check(title, names, pairs)
  different = lambda pool: {pair.prompt.tobytes() for pair in pool}
  if all(len(different(pool)) < 2 for pool in pools_of(pairs).values()):
    raise UserError(
      f"{title} infers raters from their other pairs, and no rater has pairs on"
      " two prompts.",
      where="data",
      remedy="Give several pairs of each rater, or choose another loss.",
    )


def _options(examples, part):
  return {"pools": pools_of(examples(part)), "sampled": part == "train"}


_GIVES = {
  "chosen_scores": "B",
  "rejected_scores": "B",
  "preference": "B",
  # False for a pair that only fills the batch.
  "valid": "B bool",
}
RATERS = Kind(
  name="raters",
  about="a pair and other pairs of its rater",
  gives={**_GIVES, "latent_means": "BZ", "latent_log_variances": "BZ"},
  arrays=_arrays,
  observe=_observe,
  records={
    "pairs": Reading(
      collate_rated,
      lambda pair: pair.longest,
      rated,
      options=_options,
      check=_check_others,
    )
  },
  head=_HEAD,
  of_head=("infer", "draw"),
)
RATER_PAIRS = Kind(
  name="rater_pairs",
  about="a pair and the number of its rater",
  gives={**_GIVES, "rater_weights": "BK"},
  arrays=_arrays,
  observe=_observe,
  records={
    "pairs": Reading(
      collate_numbered,
      data.pair_length,
      options=lambda examples, part: {"numbers": numbers_of(examples("train"))},
      check=_check,
    )
  },
  head=_HEAD,
  of_head=("weights",),
  head_settings=lambda examples: {"raters": len(numbers_of(examples))},
  several=True,
)
