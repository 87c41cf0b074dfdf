"""Metrics of what a head says of responses, whatever the loss is."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jalign import data
from jalign.losses import general_preference_score
from jalign.training.kinds.kind import Arrays, Sums, mean, wins
from jalign.types import Array

# Arrays [2, B] or [2, B, M] of a metric's values and weights, by its name.
_OBSERVED = "observed/"


def observe(arrays: Arrays, weights: Array) -> Sums:
  """Metrics of scores; ties count one half.

  Accuracies are those of the labels: of pairs whose ranks differ, and of single
  responses that are desirable or unsafe. Negative log-likelihoods are
  -p log sigmoid(z) - (1 - p) log sigmoid(-z) for log-odds z, with the pair's
  P(chosen > rejected) as p where the data has it, else 1. Where a head compares
  two responses, z is the logit less the swapped one, as in
  `pairwise_preference`.
  """
  metrics: Sums = {}
  preference = arrays.get("preference")
  if "scores" in arrays:
    scores, ranks, valid = (arrays[n] for n in ("scores", "ranks", "valid"))
    ordered = (ranks[:, :, None] < ranks[:, None, :]) & (
      valid[:, :, None] & valid[:, None, :]
    )
    gaps = scores[:, :, None] - scores[:, None, :]
    metrics["score_mean"] = mean(scores, valid * weights[:, None])
    if preference is not None:
      preference = preference[:, None, None]
    metrics |= _of_gaps(gaps, ordered * weights[:, None, None], preference)
  if "logits" in arrays:
    gap = arrays["logits"] - arrays["swapped_logits"]
    metrics |= _of_gaps(gap, weights, preference)
  if "first_embeddings" in arrays:
    gap = general_preference_score(
      arrays["first_embeddings"], arrays["second_embeddings"]
    )
    metrics |= _of_gaps(gap, weights, preference)
  if "harmful_costs" in arrays:
    metrics |= _of_costs(arrays, weights)
  if "response_scores" in arrays:
    scores = arrays["response_scores"]
    metrics["score_mean"] = mean(scores, weights)
    if "desirable" in arrays:
      signed = jnp.where(arrays["desirable"], scores, -scores)
      metrics |= _of_gaps(signed, weights)
  for name, pair in arrays.items():
    if name.startswith(_OBSERVED):
      value, weight = pair
      own = weights[:, None] if value.ndim == 2 else weights
      metrics[name.removeprefix(_OBSERVED)] = mean(value, weight * own)
  return metrics


def of_objectives(arrays: Arrays, batch: data.ScoreBatch) -> Arrays:
  """What `observe` shows of each objective.

  Args:
    arrays: what the head gives.
    batch: has the labels, and the names of the objectives.

  Returns:
    Arrays for `observe`; {} for data without objectives.
  """
  ratings, rated = batch.ratings, batch.rated
  if "objective_scores" in arrays and ratings is not None and rated is not None:
    errors = jnp.square(arrays["objective_scores"] - ratings)
    shown = _each("rating_error", errors, rated, batch.names)
    return shown | _all("rating_error", errors, rated)
  objective, preference = batch.objective, batch.objective_preferences
  if objective is None or preference is None:
    return {}
  if "chosen_objective_scores" in arrays:
    gaps = (
      arrays["chosen_objective_scores"] - arrays["rejected_objective_scores"]
    )
  elif "chosen_scores" in arrays:
    gaps = (arrays["chosen_scores"] - arrays["rejected_scores"])[:, None]
  else:
    return {}
  right = wins(gaps * jnp.sign(preference - 0.5))
  decided = objective * (preference != 0.5)
  shown = _each("score_accuracy", right, decided, batch.names)
  if "chosen_objective_scores" in arrays:
    nll = jax.nn.softplus(-gaps) + (1 - preference) * gaps
    shown |= _all("score_accuracy", right, decided)
    shown |= _all("score_nll_nats", nll, objective)
  return shown


def _all(metric: str, values: Array, weights: Array) -> Arrays:
  """A metric of all objectives together, of values and weights [B, M]."""
  return {_OBSERVED + metric: jnp.stack([values, weights.astype(values.dtype)])}


def _each(
  metric: str, values: Array, weights: Array, names: Sequence[str]
) -> Arrays:
  """The same metric of each of the M objectives, by name."""
  return {
    f"{key}/{name}": array[..., m]
    for key, array in _all(metric, values, weights).items()
    for m, name in enumerate(names)
  }


def _of_gaps(
  gaps: Array, weights: Array, preference: Array | None = None
) -> Sums:
  """Metrics of the log-odds of what the labels say."""
  nll = jax.nn.softplus(-gaps)
  if preference is not None:
    nll += (1 - preference) * gaps
  return {
    "score_accuracy": mean(wins(gaps), weights),
    "score_nll_nats": mean(nll, weights),
  }


def _of_costs(arrays: Arrays, weights: Array) -> Sums:
  """Metrics of costs: the order of harm and, with labels, the signs."""
  costs = arrays["harmful_costs"], arrays["harmless_costs"]
  metrics = _of_gaps(costs[0] - costs[1], weights)
  both = jnp.stack(costs)
  twice = jnp.stack([weights, weights])
  metrics["score_mean"] = mean(both, twice)
  if "harmful_unsafe" in arrays:
    unsafe = jnp.stack([arrays["harmful_unsafe"], arrays["harmless_unsafe"]])
    right = wins(jnp.where(unsafe, both, -both))
    metrics["unsafe_accuracy"] = mean(right, twice)
  return metrics
