"""Samples the responses of a round, each from the model that its draw names.

There are P prompts and K responses to each, in P * K rows; the responses of a
prompt are adjacent. Within a mesh the rows are split over its batch axes.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jalign.data import PromptBatch
from jalign.decode import MixtureParams, Sampler, generate, geometric, sampler
from jalign.errors import UserError
from jalign.sharding import constrain, spread
from jalign.training.misuse import check_reference
from jalign.types import Array, Model, Params, Rollout


class Cast(NamedTuple):
  """The parameters that responses can be drawn from.

  Attributes:
    policy: the policy's trained parameters.
    reference: the reference's parameters; None where no reference is given.
    carry: the algorithm's own state.
  """

  policy: Params
  reference: Params
  carry: Any


class Draw(NamedTuple):
  """Which model samples one response to each prompt, and how.

  Draws with the same function `params` and the same `greedy` are made in one
  run of the decoder.

  Attributes:
    name: name of the drawing model in metrics, as in `win_rate_over_mixture`.
    params: `Cast -> parameters` of the model that draws, for example a snapshot
      in the carry.
    mix_ref: weight of the reference in a token-level geometric mixture with the
      reference (`jalign.decode.geometric`), in [0, 1]; None for the round's
      weight.
    greedy: whether always to take the most probable token.
  """

  name: str
  params: Callable[[Cast], Params]
  mix_ref: float | None = 0.0
  greedy: bool = False


def of_policy(cast: Cast) -> Params:
  """The parameters of the policy."""
  return cast.policy


def of_reference(cast: Cast) -> Params:
  """The parameters of the reference; None where no reference is given."""
  return cast.reference


POLICY = Draw("policy", of_policy)
MIXTURE = Draw("mixture", of_policy, mix_ref=None)
REFERENCE = Draw("reference", of_reference)
GREEDY = Draw("greedy", of_policy, greedy=True)


def no_reference(what: str) -> UserError:
  """The error of an algorithm that needs a reference and has none.

  Args:
    what: what the algorithm does with the reference, a verb phrase.
  """
  return UserError(
    f"the algorithm {what}, but no reference is given.",
    where="round",
    remedy="Pass ref_params: play(params, ref_params, prompts, key).",
  )


def draw_responses(
  draws: Sequence[Draw],
  model: Model,
  cast: Cast,
  prompts: PromptBatch,
  key: Array,
  *,
  max_new_tokens: int,
  stop_ids: tuple[int, ...],
  pad_id: int = 0,
  mix_ref: float = 0.125,
  draw: Sampler | None = None,
  slots: int | None = None,
  whole: Callable[[Params], Params] = lambda params: params,
  rows: slice = slice(None),
) -> Rollout:
  """Samples one response to each prompt for each of K draws.

  The PRNG key of a response depends only on `key` and the response's row, not
  on the other draws or on the mesh. Where there are several processes, all call
  this together, with the same prompts.

  Args:
    draws: K draws.
    model: functions of all models that are drawn from.
    cast: the parameters of these models.
    prompts: P prompts.
    key: PRNG key, which is split into one key per row.
    max_new_tokens: the most tokens of a response, the stop token included.
    stop_ids: tokens that end a response.
    pad_id: token id that fills the columns after a response.
    mix_ref: weight of the reference for draws whose own mix_ref is None.
    draw: the sampler, temperature 1 by default; greedy draws ignore it.
    slots: number of responses that are decoded at a time; see
      `jalign.decode.generate`.
    whole: `trained parameters -> a policy's parameters`; see `make_round`.
    rows: prompts to sample for, a part of the P.

  Returns:
    Rollout of P * K rows. Its `model_logps[0]` are the log-probs under the
    model that drew the response, without mixture and temperature: where that is
    the policy, they are the old log-probs of importance ratios. If there are
    several runs of the decoder, `model_logps` has only as many models as the
    run with the fewest.

  Raises:
    UserError: a reference is needed but isn't given, or has another
      architecture.
  """
  count, size = len(prompts.lengths), len(draws)
  keys = jax.random.split(key, size * count)
  by_prompt = keys.reshape(count, size, *keys.shape[1:])[rows]
  count = len(by_prompt)
  keys = by_prompt.reshape(count * size, *keys.shape[1:])
  runs: list[Rollout] = []
  order: list[int] = []
  for run in decoder_runs(draws, model, cast, mix_ref=mix_ref, whole=whole):
    places, own = run.places, keys
    if len(places) < size:
      own = keys.reshape(count, size, *keys.shape[1:])[:, np.asarray(places)]
      own = own.reshape(count * len(places), *keys.shape[1:])
    by_row = None
    if run.shares:
      by_row = spread(np.tile(np.array(run.shares, np.float32), count))
    runs.append(
      generate(
        run.policy,
        run.params(by_row),
        prompts.tokens[rows],
        prompts.lengths[rows],
        own,
        max_new_tokens=max_new_tokens,
        stop_ids=stop_ids,
        pad_id=pad_id,
        draw=sampler(temperature=0) if run.greedy else draw or sampler(),
        samples=len(places),
        slots=slots,
      )
    )
    order += places
  return runs[0] if len(runs) == 1 else _interleave(runs, tuple(order), count)


class DecoderRun(NamedTuple):
  """A run of the decoder, which makes one or more of the draws.

  Attributes:
    places: places of the draws among all draws.
    policy: the functions that draw.
    drawing: parameters of the model that draws.
    reference: parameters of the reference, in a mixture; else None.
    shares: the reference's weight for each of the draws; () without a mixture.
    greedy: whether always to take the most probable token.
  """

  places: list[int]
  policy: Any
  drawing: Params
  reference: Params
  shares: tuple[float, ...]
  greedy: bool

  def params(self, by_row: Any) -> Any:
    """The parameters of `policy`.

    Args:
      by_row: [rows] the reference's weight in each row; None without a mixture.
    """
    if not self.shares:
      return self.drawing
    return MixtureParams(self.drawing, self.reference, by_row)


def decoder_runs(
  draws: Sequence[Draw],
  model: Model,
  cast: Cast,
  *,
  mix_ref: float,
  whole: Callable[[Params], Params],
) -> list[DecoderRun]:
  """The runs of the decoder that make the draws; Args as in `draw_responses`.

  Raises:
    UserError: as `draw_responses`.
  """
  runs = []
  for places in _together(draws):
    first = draws[places[0]]
    params, reference = first.params(cast), None
    weights = [draws[k].mix_ref for k in places]
    mixed = any(weight != 0 for weight in weights)
    if params is None or (mixed and cast.reference is None):
      raise no_reference("draws from the reference, or from a mixture with it")
    params = whole(params)
    if mixed:
      reference = whole(cast.reference)
      check_reference(params, reference)
    shares = tuple(mix_ref if w is None else w for w in weights)
    runs.append(
      DecoderRun(
        places,
        geometric(model, model) if mixed else model,
        params,
        reference,
        shares if mixed else (),
        first.greedy,
      )
    )
  return runs


def _together(draws: Sequence[Draw]) -> list[list[int]]:
  """For each run of the decoder, the places of the draws that it makes."""
  runs: dict[Any, list[int]] = {}
  for k, draw in enumerate(draws):
    runs.setdefault((draw.params, draw.greedy), []).append(k)
  return list(runs.values())


@functools.partial(jax.jit, static_argnames=("order", "count"))
def _interleave(
  runs: Sequence[Rollout], order: tuple[int, ...], count: int
) -> Rollout:
  """Joins rollouts so that a prompt's rows are in the order of its draws.

  Args:
    runs: rollouts of `count` prompts, each with its number of draws.
    order: place of the draw of each response of a prompt, run by run.
    count: number of prompts.
  """
  models = min(len(run.model_logps) for run in runs)
  runs = [
    run.replace(model_logps=jnp.moveaxis(run.model_logps[:models], 0, 1))
    for run in runs
  ]
  back = np.argsort(order)

  def join(*parts):
    by_prompt = [x.reshape(count, -1, *x.shape[1:]) for x in parts]
    joined = jnp.concatenate(by_prompt, axis=1)[:, back]
    rows = joined.reshape(-1, *joined.shape[2:])
    return constrain(rows, ("batch",) + (None,) * (rows.ndim - 1))

  rollout = jax.tree.map(join, *runs)
  return rollout.replace(model_logps=jnp.moveaxis(rollout.model_logps, 1, 0))
