"""The one place where a loss meets parameters.

A loss names the arrays that it wants; this module computes those and no
others, so a reference pass happens only for a loss with a `ref_` argument.
Nothing is averaged here: sums and counts go to jalign.training.step.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jalign import losses
from jalign.errors import UserError
from jalign.logprobs import sequence_logprobs
from jalign.types import Array, Model, PairBatch, Params, SequenceBatch

Sums = dict[str, tuple[Array, Array]]  # name -> (sum, count), both []


class Objective(NamedTuple):
  """A differentiable objective, not yet divided.

  Attributes:
    sums: `(params, batch, ref_params) -> (loss sum, (denominator, metrics))`
      where the metrics are `Sums`.
    needs_reference: whether the loss has a `ref_` argument.
    coupled: whether an example's loss depends on the rest of its batch.
  """

  sums: Callable[..., tuple[Array, tuple[Array, Sums]]]
  needs_reference: bool
  coupled: bool


def make_objective(
  loss: Callable[..., Array],
  model: Model,
  *,
  batch: str | None = None,
  denominator: str | None = None,
  coupled: bool | None = None,
) -> Objective:
  """Joins a loss to a model.

  Args:
    loss: arrays in, per-example losses out; hyperparameters bound
      (functools.partial). The names of its positional parameters say what it
      is given: see `losses.VOCABULARY`.
    model: the policy's and the reference's functions.
    batch: kind of batch, "pairs" or "sequences". This and the next two are by
      default what the CATALOGUE says of the loss; of one that it doesn't
      hold, "pairs", "examples" and False.
    denominator: what the summed loss is divided by: "examples" or "tokens".
    coupled: see `Objective`.

  Raises:
    UserError: the kind of batch is unknown, or the loss names an array that
      such a batch doesn't give.
  """
  entry = losses.entry_of(loss)
  batch = entry.batch if batch is None else batch
  denominator = entry.denominator if denominator is None else denominator
  coupled = entry.coupled if coupled is None else coupled
  if denominator not in ("examples", "tokens") or (
    denominator == "tokens" and batch == "pairs"
  ):
    raise UserError(
      f"a loss on {batch} can't be divided by {denominator!r}.",
      where="loss",
      remedy="Pairs are divided by 'examples'; sequences by that or 'tokens'.",
    )
  if batch not in _ARRAYS:
    raise UserError(
      f"batches of kind {batch!r} have no objective.",
      where="loss",
      remedy=f"Known kinds: {', '.join(_ARRAYS)}.",
    )
  names = losses.array_parameters(loss)
  given = losses.VOCABULARY[batch]
  unknown = [name for name in names if name not in given]
  if unknown:
    raise UserError(
      f"{losses.name_of(loss)} takes {', '.join(unknown)}, which a batch of"
      f" {batch} doesn't give.",
      where="loss",
      remedy=f"It gives: {', '.join(given)}.",
    )
  needs_reference = any(name.startswith("ref_") for name in names)

  def sums(params, data, ref_params=None):
    arrays = _ARRAYS[batch](
      model, params, data, ref_params if needs_reference else None, names
    )
    per_example = loss(*(arrays[name] for name in names))
    weights = data.weights
    if per_example.shape != weights.shape:
      raise UserError(
        f"{losses.name_of(loss)} gave shape {per_example.shape} for"
        f" {weights.shape[0]} examples; a loss doesn't reduce.",
        where="loss",
      )
    # A row that fills the batch may hold anything: drop it, don't weigh it.
    total = jnp.sum(jnp.where(weights > 0, per_example * weights, 0.0))
    if denominator == "tokens":
      count = jnp.sum(weights * arrays["lengths"])
    else:
      count = jnp.sum(weights)
    metrics = _METRICS[batch](arrays, weights)
    return total, (count, metrics | {"loss": (total, count)})

  return Objective(sums, needs_reference, coupled)


# ------------------------------------------------- arrays of each batch kind


def _counts(sequences):
  return jnp.sum(sequences.mask[:, 1:], -1).astype(jnp.float32)


def _reference(model, data, ref_params, names):
  """Reference log-probs: the batch's own, or a pass without gradient."""
  if data.ref_logps is not None:
    return data.ref_logps
  if ref_params is None:
    raise UserError(
      f"the loss takes {', '.join(n for n in names if n.startswith('ref_'))},"
      " and neither reference parameters nor precomputed log-probs are given.",
      where="loss",
    )
  return jax.lax.stop_gradient(
    sequence_logprobs(model, ref_params, data.sequences)
  )


def _optional(data: Any, name: str) -> Array:
  value = getattr(data, name)
  if value is None:
    raise UserError(
      f"the loss takes {name}, which the data doesn't hold.",
      where="loss",
      remedy=f"Give every record a {name!r} field, or choose another loss.",
    )
  return value


def _pair_arrays(model, params, data: PairBatch, ref_params, names):
  split = lambda x: tuple(x.reshape(-1, 2).T)  # interleaved rows
  arrays = {}
  arrays["chosen_logps"], arrays["rejected_logps"] = split(
    sequence_logprobs(model, params, data.sequences)
  )
  arrays["chosen_lengths"], arrays["rejected_lengths"] = split(
    _counts(data.sequences)
  )
  if any(name.startswith("ref_") for name in names):
    arrays["ref_chosen_logps"], arrays["ref_rejected_logps"] = split(
      _reference(model, data, ref_params, names)
    )
  for name in ("chosen_scores", "rejected_scores", "preference"):
    if name in names:
      arrays[name] = _optional(data, name)
  return arrays


def _pair_metrics(arrays, weights) -> Sums:
  count = jnp.sum(weights)
  mean = lambda x: (jnp.sum(jnp.where(weights > 0, x * weights, 0.0)), count)
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


def _wins(margin):
  return jnp.where(margin > 0, 1.0, jnp.where(margin == 0, 0.5, 0.0))


def _sequence_arrays(model, params, data: SequenceBatch, ref_params, names):
  del ref_params, names
  return {
    "logps": sequence_logprobs(model, params, data.sequences),
    "lengths": _counts(data.sequences),
  }


def _sequence_metrics(arrays, weights) -> Sums:
  live = lambda x: jnp.sum(jnp.where(weights > 0, x * weights, 0.0))
  tokens = live(arrays["lengths"])
  return {
    "nll_per_token": (-live(arrays["logps"]), tokens),
    "tokens": (tokens, jnp.sum(weights)),
  }


_ARRAYS: Mapping[str, Callable[..., dict[str, Array]]] = {
  "pairs": _pair_arrays,
  "sequences": _sequence_arrays,
}
_METRICS: Mapping[str, Callable[..., Sums]] = {
  "pairs": _pair_metrics,
  "sequences": _sequence_metrics,
}


def make_evaluation(
  objective: Objective,
) -> Callable[[Params, Any, Params | None], Sums]:
  """A jitted `(params, batch, ref_params) -> Sums`, without gradients."""

  @jax.jit
  def evaluate(params, batch, ref_params=None):
    return objective.sums(params, batch, ref_params)[1][1]

  return evaluate
