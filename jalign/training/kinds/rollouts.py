"""K sampled responses to a prompt, with log-probs and rewards from sampling."""

import jax.numpy as jnp

from jalign.training.kinds.kind import (
  Arrays,
  Kind,
  Sums,
  by_token,
  mean,
  optional,
)
from jalign.training.kinds.lists import live, tokens
from jalign.training.outputs import Outputs
from jalign.types import Array, RolloutBatch


def _arrays(
  outputs: Outputs, batch: RolloutBatch, names: tuple[str, ...]
) -> Arrays:
  steps = lambda rows: rows.reshape(*batch.valid.shape, -1)
  mask = steps(batch.sequences.mask[:, 1:])
  arrays = {
    "token_logps": steps(outputs.tokens()),
    "old_token_logps": steps(batch.old_token_logps),
    "mask": mask,
    "rewards": batch.rewards,
    "valid": live(batch),
  }
  if outputs.needs_reference:
    recorded = batch.ref_token_logps
    arrays["ref_token_logps"] = steps(
      outputs.ref_tokens() if recorded is None else recorded
    )
  if "advantages" in names:
    values = optional(batch, names, ("advantages",))["advantages"]
    arrays["advantages"] = by_token(values, mask)
  return arrays


def _observe(arrays: Arrays, weights: Array) -> Sums:
  counted = arrays["valid"] * weights[:, None]
  of = lambda x: mean(x, counted)
  sums = lambda name: jnp.sum(arrays[name], -1)
  logps = sums("token_logps")
  metrics = {
    "logps_nats": of(logps),
    "reward_mean": of(arrays["rewards"]),
    "old_log_ratio_nats": of(logps - sums("old_token_logps")),
    "responses_count": (jnp.sum(counted), jnp.sum(weights)),
    "response_tokens": of(sums("mask")),
  }
  if "ref_token_logps" in arrays:
    metrics["log_ratio_nats"] = of(logps - sums("ref_token_logps"))
  return metrics


_GIVES = {
  "token_logps": "BKT",
  "old_token_logps": "BKT",
  "ref_token_logps": "BKT",
  "mask": "BKT bool",
  "rewards": "BK",
  "advantages": "BKT",
  "valid": "BK bool",
}
ROLLOUTS = Kind(
  name="rollouts",
  about="K sampled responses to one prompt, token by token, with rewards",
  gives=_GIVES,
  arrays=_arrays,
  observe=_observe,
  counts={"tokens": tokens},
  online=tuple(_GIVES),
  several=True,
)
