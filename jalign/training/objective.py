"""The one place where a loss meets parameters.

A loss names the arrays that it wants; jalign.training.arrays computes those and
no others, so a reference pass happens only for a loss with a `ref_` argument.
Nothing is averaged here: sums and counts go to jalign.training.step.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jalign import losses
from jalign.errors import UserError
from jalign.training import arrays as batch_arrays
from jalign.training.misuse import check_record
from jalign.training.observe import OBSERVERS, Sums
from jalign.training.scores import Nudge, Scores
from jalign.types import Array, Model, Params


class Objective(NamedTuple):
  """A differentiable objective, not yet divided.

  Attributes:
    sums: `(params, batch, ref_params=None, counts=None) -> (loss sum,
      (denominator, metrics))` where the metrics are `Sums`. A sum of losses
      may have terms that are divided by another count than the first: these
      enter with the ratio of `counts`, which are those of the whole batch of
      which this one is a part; by default this batch is the whole.
    counts: `batch -> {name: []}`, what the terms are divided by, the main one
      first.
    needs_reference: whether the loss has a `ref_` argument.
    coupled: whether an example's loss depends on the rest of its batch.
    nudged: `(params, nudge, batch, ref_params=None, counts=None) -> (loss sum,
      (denominator, metrics, hidden))`: the same as `sums` with a Nudge added,
      for gradients by row; `hidden` are the states that it was added to.
    nudge: `(params, batch, hidden=False) -> Nudge` of zeros, with or without
      states.
  """

  sums: Callable[..., tuple[Array, tuple[Array, Sums]]]
  counts: Callable[[Any], dict[str, Array]]
  needs_reference: bool
  coupled: bool
  nudged: Callable[..., tuple[Array, tuple[Array, Sums, Array | None]]]
  nudge: Callable[..., Nudge]


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
    batch: kind of batch, a key of `arrays.MAKERS`. This and the next two are by
      default what the CATALOGUE says of the loss; of one that it doesn't
      hold, "pairs", "examples" and False.
    denominator: what the summed loss is divided by: "examples" or "tokens". A
      weighted sum's terms know theirs.
    coupled: see `Objective`.

  Raises:
    UserError: the kind of batch is unknown, or the loss names an array that
      such a batch doesn't give.
  """
  entry = losses.entry_of(loss)
  given: dict[str, Any] = {
    "batch": batch,
    "denominator": denominator,
    "coupled": coupled,
  }
  entry = entry._replace(**{k: v for k, v in given.items() if v is not None})
  batch = entry.batch
  if batch not in batch_arrays.MAKERS:
    raise UserError(
      f"batches of kind {batch!r} have no objective.",
      where="loss",
      remedy=f"Known kinds: {', '.join(batch_arrays.MAKERS)}.",
    )
  if entry.denominator not in ("examples", "tokens") or (
    entry.denominator == "tokens" and batch == "pairs"
  ):
    raise UserError(
      f"a loss on {batch} can't be divided by {entry.denominator!r}.",
      where="loss",
      remedy="Pairs are divided by 'examples'; sequences by that or 'tokens'.",
    )
  names = losses.array_parameters(loss)
  known = batch_arrays.GIVEN[batch]
  unknown = [name for name in names if name not in known]
  if unknown:
    raise UserError(
      f"{losses.name_of(loss)} takes {', '.join(unknown)}, which a batch of"
      f" {batch} doesn't give.",
      where="loss",
      remedy=f"It gives: {', '.join(known)}.",
    )
  terms = losses.terms_of(loss, entry)
  denominators = {term.denominator: None for term in terms}
  main = "examples" if "examples" in denominators else next(iter(denominators))
  needs_reference = any(name.startswith("ref_") for name in names)

  def counts_of(data) -> dict[str, Array]:
    check_record(data)
    tokens = batch_arrays.tokens_of(batch, data)
    counted = {"examples": jnp.ones_like(data.weights)} | tokens
    return {
      name: jnp.sum(data.weights * counted[name])
      for name in (main, *(d for d in denominators if d != main))
    }

  def nudged(params, nudge, data, ref_params=None, counts=None):
    check_record(data)
    score = Scores(
      model,
      params,
      ref_params if needs_reference else None,
      getattr(data, "ref_logps", None),
      names,
      None if nudge is None else (data.sequences, nudge),
    )
    arrays = batch_arrays.MAKERS[batch](score, data, names)
    weights = data.weights
    # A row that fills the batch may hold anything: drop it, don't weigh it.
    live = lambda x: jnp.sum(jnp.where(weights > 0, x * weights, 0.0))
    own = counts_of(data)
    counts = own if counts is None else counts
    total: Any = 0.0
    metrics = {}
    for term in terms:
      value = term.loss(*(arrays[name] for name in term.arrays))
      if value.shape != weights.shape:
        raise UserError(
          f"{term.name} gave shape {value.shape} for"
          f" {weights.shape[0]} examples; a loss doesn't reduce.",
          where="loss",
          remedy=f"Return one value an example, {weights.shape}: no mean over"
          " the batch, and tokens summed.",
        )
      part = live(value)
      if len(terms) > 1:
        metrics[f"loss/{term.name}"] = (part, own[term.denominator])
      part = part if len(terms) == 1 else term.weight * part
      if term.denominator != main:
        other = jnp.maximum(counts[term.denominator], 1e-30)
        part *= counts[main] / other
      total += part
    metrics |= OBSERVERS[batch](arrays, weights)
    metrics["loss"] = (total, own[main])
    return total, (own[main], metrics, score.nudged_hidden)

  def sums(params, data, ref_params=None, counts=None):
    total, aux = nudged(params, None, data, ref_params, counts)
    return total, aux[:2]

  def zeros(params, data, hidden=False):
    rows = data.sequences
    states = None
    if hidden:
      score = Scores(model, params, None, None, ())
      like = jax.eval_shape(score.hidden, rows)
      states = jnp.zeros(like.shape, like.dtype)
    return Nudge(jnp.zeros(len(rows.tokens), jnp.float32), states)

  return Objective(
    sums, counts_of, needs_reference, entry.coupled, nudged, zeros
  )


def make_evaluation(
  objective: Objective,
) -> Callable[[Params, Any, Params | None], Mapping]:
  """A jitted `(params, batch, ref_params) -> Sums`, without gradients."""

  @jax.jit
  def evaluate(params, batch, ref_params=None):
    return objective.sums(params, batch, ref_params)[1][1]

  return evaluate
