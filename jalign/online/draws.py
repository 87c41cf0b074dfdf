"""Who samples the responses of a round.

P prompts, K responses to each; rows are P * K, those of a prompt adjacent.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jalign.data import PromptBatch
from jalign.decode import MixtureParams, Sampler, generate, geometric, sampler
from jalign.errors import UserError
from jalign.training.misuse import check_reference
from jalign.types import Array, Model, Params, Rollout


class Cast(NamedTuple):
  """Whose parameters there are to draw from.

  Attributes:
    policy: of the policy, as they are trained.
    reference: of the reference, None where none is given.
    carry: the algorithm's own state.
  """

  policy: Params
  reference: Params
  carry: Any


class Draw(NamedTuple):
  """Who samples one response to each prompt.

  Draws that have the same function for `params` and are greedy or not alike
  are made in one run of the decoder.

  Attributes:
    name: for metrics, as in `win_rate_over_mixture`.
    params: `Cast -> parameters` of the model that draws, a carried snapshot
      for example.
    mix_ref: weight of the reference in a token-level geometric mixture with
      it (`jalign.decode.geometric`), in [0, 1]; None for the weight that the
      round is given.
    greedy: whether the likeliest token is taken each time.
  """

  name: str
  params: Callable[[Cast], Params]
  mix_ref: float | None = 0.0
  greedy: bool = False


def _policy(cast: Cast) -> Params:
  return cast.policy


def _reference(cast: Cast) -> Params:
  return cast.reference


POLICY = Draw("policy", _policy)
MIXTURE = Draw("mixture", _policy, mix_ref=None)
REFERENCE = Draw("reference", _reference)
GREEDY = Draw("greedy", _policy, greedy=True)


def no_reference(what: str) -> UserError:
  """The error of an algorithm that does something with a reference it lacks."""
  return UserError(
    f"the algorithm {what}, and no reference is given.",
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
) -> Rollout:
  """Samples one response to each prompt for each of K draws.

  A response's key is that of its row, whoever else draws.

  Args:
    draws: K of them.
    model: functions of all whose parameters are drawn from.
    cast: these parameters.
    prompts: P prompts.
    key: is split into one a row.
    max_new_tokens: of a response at most, the stop token included.
    stop_ids: tokens that end a response.
    pad_id: fills columns after a response.
    mix_ref: weight of the reference where a draw leaves it open.
    draw: the sampler, temperature 1 by default; greedy draws have their own.
    slots: responses decoded at a time, see `jalign.decode.generate`.
    whole: makes a policy's parameters of those that are trained, see
      `make_round`.

  Returns:
    Rollout of P * K rows. Its `model_logps[0]` are those of the model that
    drew, without mixture and temperature: where that is the policy, the old
    log-probs of importance ratios. Where some draws are mixtures and others
    come from other parameters, no further model's are kept.

  Raises:
    UserError: a reference is needed and isn't given, or is of another
      architecture.
  """
  count, size = len(prompts.lengths), len(draws)
  keys = jax.random.split(key, size * count)
  tokens, lengths = jnp.asarray(prompts.tokens), jnp.asarray(prompts.lengths)
  runs: list[Rollout] = []
  order: list[int] = []
  for places in _together(draws):
    first = draws[places[0]]
    policy: Any = model
    params = first.params(cast)
    weights = [draws[k].mix_ref for k in places]
    mixed = any(weight != 0 for weight in weights)
    if params is None or (mixed and cast.reference is None):
      raise no_reference("draws from the reference, or from a mixture with it")
    params = whole(params)
    if mixed:
      reference = whole(cast.reference)
      check_reference(params, reference)
      shares = jnp.float32([mix_ref if w is None else w for w in weights])
      params = MixtureParams(params, reference, jnp.tile(shares, count))
      policy = geometric(model, model)
    own = keys
    if len(places) < size:
      own = keys.reshape(count, size, *keys.shape[1:])[:, np.asarray(places)]
      own = own.reshape(count * len(places), *keys.shape[1:])
    runs.append(
      generate(
        policy,
        params,
        tokens,
        lengths,
        own,
        max_new_tokens=max_new_tokens,
        stop_ids=stop_ids,
        pad_id=pad_id,
        draw=sampler(temperature=0) if first.greedy else draw or sampler(),
        samples=len(places),
        slots=slots,
      )
    )
    order += places
  return runs[0] if len(runs) == 1 else _interleave(runs, order, count)


def _together(draws: Sequence[Draw]) -> list[list[int]]:
  """Places of the draws that one run of the decoder makes."""
  runs: dict[Any, list[int]] = {}
  for k, draw in enumerate(draws):
    runs.setdefault((draw.params, draw.greedy), []).append(k)
  return list(runs.values())


def _interleave(
  runs: Sequence[Rollout], order: Sequence[int], count: int
) -> Rollout:
  """One rollout of several, the rows of a prompt in the order of its draws.

  Args:
    runs: each of `count` times its own number of rows.
    order: the draw that each response of a prompt comes from, run by run.
    count: prompts.
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
    return joined.reshape(-1, *joined.shape[2:])

  rollout = jax.tree.map(join, *runs)
  return rollout.replace(model_logps=jnp.moveaxis(rollout.model_logps, 1, 0))
