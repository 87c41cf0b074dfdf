"""The one place where a loss meets parameters.

A loss names the arrays that it takes. Its kind of batch computes those arrays
and no others, so that the reference is run only for a loss that needs it.
Nothing is averaged here: jalign.training.step divides the sums.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jalign import losses
from jalign.errors import UserError
from jalign.models.heads import ScoreHead
from jalign.training.critic import critic_of, has_critic, policy_of
from jalign.training.kinds import Kind, Sums, kind_of, referring
from jalign.training.kinds.ratios import clips_of, observe_ratios
from jalign.training.misuse import check_record
from jalign.training.offload import on_device
from jalign.training.outputs import Nudge, Outputs
from jalign.types import Array, Model


class Objective(NamedTuple):
  """A differentiable objective, not yet divided by its count.

  Attributes:
    sums: `(params, batch, ref_params=None, counts=None) -> (loss sum,
      (denominator, metrics))`, with metrics as `Sums`. A sum of losses may have
      terms that are divided by another count than the first term. They enter
      the loss sum multiplied by the ratio of `counts`, which are the counts of
      the whole batch that this batch is a part of; by default, its own counts.
    counts: `batch -> {name: []}`, the counts that terms are divided by, with
      the main one first.
    needs_reference: whether the loss takes a pass through the reference.
    coupled: whether an example's loss depends on the rest of its batch.
    nudged: `(params, nudge, batch, ref_params=None, counts=None) -> (loss sum,
      (denominator, metrics, hidden))`: `sums` with a Nudge added, whose
      gradients are gradients per row; `hidden` are the states before the Nudge.
    nudge: `(params, batch, hidden=False) -> Nudge` of zeros; `hidden` says
      whether it has zeros for the states, too.
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
  batch: str | Kind | None = None,
  denominator: str | None = None,
  coupled: bool | None = None,
  head: ScoreHead | None = None,
) -> Objective:
  """Joins a loss to a model.

  Args:
    loss: arrays in, losses per example out, with its hyperparameters bound
      (functools.partial). The names of its positional parameters say which
      arrays it is given: see `kinds.vocabulary`.
    model: functions of the policy and of the reference.
    batch: kind of batch: a key of `kinds.KINDS`, or a kind of your own. By
      default this and the next two are what the CATALOGUE says of the loss or,
      for a loss that isn't in it, "pairs", "examples" and False.
    denominator: what the summed loss is divided by: "examples" or "tokens". The
      terms of a weighted sum bring their own.
    coupled: see `Objective`.
    head: score head, for losses on its outputs. The parameters are then
      `{"model": the model's, "head": the head's}`. For losses on a critic's
      values they are `{"model": the policy's, "critic": the critic's}`; see
      `jalign.training.critic`.

  Raises:
    UserError: the kind of batch is unknown; the loss names an array that such a
      batch, or such a head, doesn't give; or it can't be divided so.
  """
  entry = losses.entry_of(loss)
  given: dict[str, Any] = {"denominator": denominator, "coupled": coupled}
  entry = entry._replace(**{k: v for k, v in given.items() if v is not None})
  kind = kind_of(entry.batch if batch is None else batch)
  arrays_of = kind.arrays
  assert arrays_of is not None  # kind_of saw to it
  names = losses.array_parameters(loss)
  _check_names(losses.name_of(loss), names, kind, head)
  terms = losses.terms_of(loss, entry)
  denominators = dict.fromkeys(term.denominator for term in terms)
  _check_denominators((entry.denominator, *denominators), kind)
  clips = clips_of(terms) if "token_logps" in kind.gives else []
  main = "examples" if "examples" in denominators else next(iter(denominators))
  needs_reference = bool(referring(kind, names))

  def counts_of(data) -> dict[str, Array]:
    check_record(data)
    count = lambda name: (
      jnp.ones_like(data.weights)
      if name == "examples"
      else kind.counts[name](data)
    )
    return {
      name: jnp.sum(data.weights * count(name))
      for name in (main, *(d for d in denominators if d != main))
    }

  def outputs_of(params, data, **options) -> Outputs:
    if has_critic(params):
      options["critic"] = critic_of(params)
      params = policy_of(params)
    if head is None:
      return Outputs(model, params, data.sequences, names, **options)
    own = head, params["head"]
    return Outputs(
      model, params["model"], data.sequences, names, head=own, **options
    )

  def nudged(params, nudge, data, ref_params=None, counts=None):
    check_record(data)
    outputs = outputs_of(
      params,
      data,
      ref_params=ref_params if needs_reference else None,
      ref_logps=getattr(data, "ref_logps", None),
      nudge=nudge,
    )
    arrays = arrays_of(outputs, data, names)
    weights = data.weights
    # A row that fills the batch may hold NaN: drop it, don't multiply by 0.
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
          f" {weights.shape[0]} examples; a loss must not average them.",
          where="loss",
          remedy=f"Return a value per example, {weights.shape}: tokens summed,"
          " and no mean over the batch.",
        )
      part = live(value)
      if len(terms) > 1:
        metrics[f"loss/{term.name}"] = (part, own[term.denominator])
      part = part if len(terms) == 1 else term.weight * part
      if term.denominator != main:
        other = jnp.maximum(counts[term.denominator], 1e-30)
        part *= counts[main] / other
      total += part
    metrics |= kind.observe(arrays, weights)
    for clip in clips:
      metrics |= observe_ratios(arrays, weights, clip)
    metrics["loss"] = (total, own[main])
    return total, (own[main], metrics, outputs.nudged_hidden)

  def sums(params, data, ref_params=None, counts=None):
    total, aux = nudged(params, None, data, ref_params, counts)
    return total, aux[:2]

  def zeros(params, data, hidden=False):
    states = None
    if hidden:
      like = jax.eval_shape(lambda p: outputs_of(p, data).hidden(), params)
      states = jnp.zeros(like.shape, like.dtype)
    rows = len(data.sequences.tokens)
    return Nudge(jnp.zeros(rows, jnp.float32), states)

  return Objective(
    sums, counts_of, needs_reference, entry.coupled, nudged, zeros
  )


def _check_names(
  title: str, names: tuple[str, ...], kind: Kind, head: ScoreHead | None
) -> None:
  """Raises UserError for a loss on arrays that neither batch nor head gives."""
  unknown = [name for name in names if name not in kind.gives]
  if unknown:
    raise UserError(
      f"{title} takes {', '.join(unknown)}, which a batch of {kind.name}"
      " doesn't give.",
      where="loss",
      remedy=f"Such a batch gives: {', '.join(kind.gives)}.",
    )
  if bool(kind.head) != (head is not None):
    raise UserError(
      f"a loss on {kind.name} takes outputs of a score head, and there is none."
      if head is None
      else f"a loss on {kind.name} takes no score head.",
      where="head",
      remedy="Pass head=, one of jalign.models.heads."
      if head is None
      else "Leave head= out.",
    )
  lacking = [
    name
    for name in names
    if name in kind.head and getattr(head, kind.head[name], None) is None
  ]
  if lacking:
    has = lambda by: getattr(head, by, None) is not None
    able = [n for n, by in kind.head.items() if has(by)]
    raise UserError(
      f"{title} takes {', '.join(lacking)}, which this head doesn't give.",
      where="head",
      remedy=f"This head gives: {', '.join(able) or 'nothing of this kind'}.",
    )


def _check_denominators(names: Iterable[str], kind: Kind) -> None:
  known = ("examples", *kind.counts)
  for name in names:
    if name not in known:
      raise UserError(
        f"a loss on {kind.name} can't be divided by {name!r}.",
        where="loss",
        remedy=f"Divide it by {' or '.join(map(repr, known))}.",
      )


def make_evaluation(objective: Objective) -> Any:
  """Makes a jitted `(params, batch, ref_params) -> Sums`, without gradients."""

  @jax.jit
  def evaluate(params, batch, ref_params=None):
    return objective.sums(params, batch, on_device(ref_params))[1][1]

  return evaluate
