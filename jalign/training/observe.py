"""Metrics of a batch beside its loss, by batch kind: sums and counts."""

from collections.abc import Callable, Mapping

import jax.numpy as jnp

from jalign.types import Array

Sums = dict[str, tuple[Array, Array]]  # name -> (sum, count), both []
Arrays = dict[str, Array]


def _mean(values: Array, weights: Array) -> tuple[Array, Array]:
  """(sum, count) of rows that count."""
  return (
    jnp.sum(jnp.where(weights > 0, values * weights, 0.0)),
    jnp.sum(weights),
  )


def _wins(margin: Array) -> Array:
  return jnp.where(margin > 0, 1.0, jnp.where(margin == 0, 0.5, 0.0))


def pairs(arrays: Arrays, weights: Array) -> Sums:
  mean = lambda x: _mean(x, weights)
  chosen, rejected = arrays["chosen_logps"], arrays["rejected_logps"]
  metrics = {
    "chosen_logps": mean(chosen),
    "rejected_logps": mean(rejected),
    "ranking_accuracy": mean(_wins(chosen - rejected)),
    "chosen_tokens": mean(arrays["chosen_lengths"]),
    "rejected_tokens": mean(arrays["rejected_lengths"]),
  }
  if "ref_chosen_logps" in arrays:
    up = chosen - arrays["ref_chosen_logps"]
    down = rejected - arrays["ref_rejected_logps"]
    metrics |= {
      "chosen_log_ratio": mean(up),
      "rejected_log_ratio": mean(down),
      "margin": mean(up - down),
      "reward_accuracy": mean(_wins(up - down)),
    }
  return metrics


def lists(arrays: Arrays, weights: Array) -> Sums:
  """Accuracies are over ordered pairs of a list, without ties in scores."""
  valid, scores = arrays["valid"], arrays["scores"]
  each = valid * weights[:, None]
  best = jnp.argmax(jnp.where(valid, scores, -jnp.inf), -1)[:, None]
  pick = lambda x: jnp.take_along_axis(x, best, -1)[:, 0]
  ordered = (scores[:, :, None] > scores[:, None, :]) & (
    valid[:, :, None] & valid[:, None, :]
  )
  ordered = ordered * weights[:, None, None]
  accuracy = lambda x: _mean(_wins(x[:, :, None] - x[:, None, :]), ordered)
  logps = arrays["logps"]
  metrics = {
    "logps": _mean(logps, each),
    "best_logps": _mean(pick(logps), weights),
    "ranking_accuracy": accuracy(logps),
    "responses": (jnp.sum(each), jnp.sum(weights)),
    "tokens": _mean(arrays["lengths"], each),
  }
  if "ref_logps" in arrays:
    ratio = logps - arrays["ref_logps"]
    metrics |= {
      "log_ratio": _mean(ratio, each),
      "best_log_ratio": _mean(pick(ratio), weights),
      "reward_accuracy": accuracy(ratio),
    }
  return metrics


def unpaired(arrays: Arrays, weights: Array) -> Sums:
  good = weights * arrays["desirable"]
  sides = {"desirable": good, "undesirable": weights - good}
  metrics = {
    f"{side}_logps": _mean(arrays["logps"], rows)
    for side, rows in sides.items()
  }
  metrics["desirable_share"] = (jnp.sum(good), jnp.sum(weights))
  metrics["tokens"] = _mean(arrays["lengths"], weights)
  if "ref_logps" in arrays:
    ratio = arrays["logps"] - arrays["ref_logps"]
    metrics |= {
      f"{side}_log_ratio": _mean(ratio, rows) for side, rows in sides.items()
    }
  if "ref_mismatched_logps" in arrays:
    ratio = arrays["mismatched_logps"] - arrays["ref_mismatched_logps"]
    metrics["mismatched_log_ratio"] = _mean(ratio, weights)
  if "mismatched_cut" in arrays:
    metrics["mismatched_cut_tokens"] = _mean(arrays["mismatched_cut"], weights)
  if "unmatched" in arrays:
    metrics["unmatched_share"] = _mean(arrays["unmatched"], weights)
  return metrics


def sequences(arrays: Arrays, weights: Array) -> Sums:
  mean = lambda x: _mean(x, weights)
  logps, count = mean(arrays["logps"])
  tokens, _ = mean(arrays["lengths"])
  metrics = {"nll_per_token": (-logps, tokens), "tokens": (tokens, count)}
  if "ref_logps" in arrays:
    metrics["log_ratio"] = mean(arrays["logps"] - arrays["ref_logps"])
  return metrics


def tokens(arrays: Arrays, weights: Array) -> Sums:
  summed = {
    "logps": jnp.sum(arrays["token_logps"], -1),
    "lengths": jnp.sum(arrays["mask"], -1),
  }
  if "ref_token_logps" in arrays:
    summed["ref_logps"] = jnp.sum(arrays["ref_token_logps"], -1)
  metrics = sequences(summed, weights)
  if "repeats" in arrays:
    found = jnp.sum(arrays["repeats"] & arrays["mask"], -1)
    repeated, _ = _mean(found, weights)
    metrics["repeated_share"] = (repeated, metrics["tokens"][0])
  return metrics


def segments(arrays: Arrays, weights: Array) -> Sums:
  """As pairs: the first segment is the chosen one."""
  summed = {}
  for prefix in ("", "ref_"):
    if f"{prefix}step_logps" in arrays:
      first, second = jnp.sum(arrays[f"{prefix}step_logps"], -1).T
      summed[f"{prefix}chosen_logps"] = first
      summed[f"{prefix}rejected_logps"] = second
  first, second = jnp.sum(arrays["mask"], -1).T
  summed |= {"chosen_lengths": first, "rejected_lengths": second}
  return pairs(summed, weights)


def ranked_segments(arrays: Arrays, weights: Array) -> Sums:
  summed = {
    "logps": jnp.sum(arrays["step_logps"], -1),
    "lengths": jnp.sum(arrays["mask"], -1),
    "scores": arrays["scores"],
    "valid": arrays["valid"],
  }
  if "ref_step_logps" in arrays:
    summed["ref_logps"] = jnp.sum(arrays["ref_step_logps"], -1)
  return lists(summed, weights)


OBSERVERS: Mapping[str, Callable[[Arrays, Array], Sums]] = {
  "pairs": pairs,
  "lists": lists,
  "unpaired": unpaired,
  "sequences": sequences,
  "tokens": tokens,
  "segments": segments,
  "ranked_segments": ranked_segments,
}
