"""One round of online alignment: draw, judge, arrange.

P prompts, K responses to each, J pairs of draws that are compared.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jalign.data import PromptBatch
from jalign.decode import Sampler
from jalign.feedback import Judge, reward_statistics
from jalign.feedback.answers import Row
from jalign.glossary import in_section
from jalign.online.algorithms import Algorithm
from jalign.online.arrange import Judged
from jalign.online.draws import (
  POLICY,
  Cast,
  draw_responses,
  no_reference,
)
from jalign.online.judging import (
  Verdict,
  check_judge,
  check_places,
  judge_responses,
)
from jalign.online.updates import cut
from jalign.training import packed
from jalign.training.misuse import check_record
from jalign.types import Array, Model, Params, Rollout

Decode = Callable[[Any], str]  # token ids -> text


class Round(NamedTuple):
  """What one round leaves.

  Attributes:
    batches: of the round's updates, as the algorithm's loss takes them.
    rollout: P * K rows, the responses of a prompt adjacent.
    values: metrics of the round: `rollouts/...`, with
      `jalign.feedback.reward_statistics` under a judge of a reward or a cost,
      and `algorithm/...`, what the algorithm measures.
  """

  batches: tuple[Any, ...]
  rollout: Rollout
  values: dict[str, float]


def make_round(
  algorithm: Algorithm,
  model: Model,
  judge: Judge,
  decode: Decode,
  *,
  max_new_tokens: int,
  stop_ids: tuple[int, ...],
  pad_id: int = 0,
  mix_ref: float = 0.125,
  draw: Sampler | None = None,
  slots: int | None = None,
  whole: Callable[[Params], Params] = lambda params: params,
) -> Callable[..., Round]:
  """Makes the step from prompts to the batches of their updates.

  Every loss here is on the policy's own samples: keep the sampler at
  temperature 1 without truncation unless you mean to be off-policy.

  Args:
    algorithm: a row of `ALGORITHMS`, or one of your own.
    model: functions of the policy, the reference and whoever else draws.
    judge: of the responses, with what the algorithm needs.
    decode: token ids of a response, its stop token dropped -> text.
    max_new_tokens: of a response at most, the stop token included.
    stop_ids: tokens that end a response.
    pad_id: fills columns after a response.
    mix_ref: weight of the reference in a mixture that leaves it open;
      Calandriello et al. 2024 select 0.125, as do Munos et al. 2023. At 0
      Nash-MD is self-play, at 1 it goes for the best response.
    draw: the sampler, temperature 1 by default.
    slots: responses decoded at a time, see `jalign.decode.generate`.
    whole: `parameters as they are trained -> a policy's`, where a part or a
      change is trained; it leaves those of a policy as they are.

  Returns:
    `(params, ref_params, prompts, key, carry=(), rows=None) -> Round`, with P
    prompts as a jalign.data.PromptBatch and P rows of the data that the judge
    sees. `ref_params` are what training started from.

  Raises:
    UserError: the judge lacks what the algorithm needs, or it compares draws
      that aren't there.
  """
  check_places(algorithm.needs, len(algorithm.draws))
  check_judge(judge, algorithm.needs, "the algorithm")

  def play(
    params: Params,
    ref_params: Params,
    prompts: PromptBatch,
    key: Array,
    carry: Any = (),
    rows: Sequence[Row] | None = None,
  ) -> Round:
    check_record(prompts)
    # The first two as `split` gives them; the third is none of these.
    draw_key, arrange_key = jax.random.split(key)
    order_key = jax.random.fold_in(key, 2)

    reference = algorithm.reference(carry, ref_params)
    rollout = draw_responses(
      algorithm.draws,
      model,
      Cast(params, reference, carry),
      prompts,
      draw_key,
      max_new_tokens=max_new_tokens,
      stop_ids=stop_ids,
      pad_id=pad_id,
      mix_ref=mix_ref,
      draw=draw,
      slots=slots,
      whole=whole,
    )

    responses = response_texts(rollout, decode, stop_ids)
    verdict = judge_responses(
      judge, algorithm.needs, prompts.texts, responses, rollout, rows
    )

    live = prompts.weights > 0
    values = _values(algorithm, live, rollout, responses, verdict)

    judged = Judged(rollout, *verdict[1:], prompts.weights, carry, arrange_key)
    if algorithm.ref_logps:
      if reference is None:
        raise no_reference("takes log-probs under the reference")
      scored = _token_logps(model, whole(reference), rollout.sequences)
      judged = judged._replace(ref_token_logps=scored)
      ratios = jnp.sum(judged.old_token_logps - scored, -1)
      values |= _divergence(algorithm, live, np.asarray(ratios))

    measured = algorithm.measure(judged)
    values = in_section("rollouts", values) | in_section(
      "algorithm", {name: float(value) for name, value in measured.items()}
    )

    batch = algorithm.arrange(judged)
    batches = cut(batch, algorithm.updates, order_key, len(live))
    return Round(batches, rollout, values)

  return play


def _values(
  algorithm: Algorithm,
  live: np.ndarray,
  rollout: Rollout,
  responses: list[str],
  verdict: Verdict,
) -> dict[str, float]:
  """Metrics of a round, over the prompts that are live."""
  draws, pairs = algorithm.draws, algorithm.needs.preference
  rows = np.repeat(live, len(draws))
  tokens = np.asarray(rollout.sequences.mask.sum(-1))
  values = {
    "response_tokens": float(np.mean(tokens[rows])),
    "finished_share": float(np.mean(np.asarray(rollout.finished)[rows])),
  }
  preference = verdict.preference[live]
  if pairs:
    texts = np.asarray(responses, object).reshape(-1, len(draws))[live]
    same = [texts[:, i] == texts[:, j] for i, j in pairs]
    values |= {
      "preference_certainty": float(np.mean(np.abs(2 * preference - 1))),
      "identical_pairs_share": float(np.mean(same)),
    }
  counted = verdict.assessed.take(np.flatnonzero(np.tile(live, len(draws))))
  values |= reward_statistics(
    counted, np.tile(np.flatnonzero(live), len(draws))
  )
  for at, (i, j) in enumerate(pairs):
    if draws[i].name != draws[j].name:
      name = f"win_rate_over_{draws[j].name}"
      values[name] = float(np.mean(preference[:, at]))
  return values


_token_logps = jax.jit(packed.token_logps, static_argnums=0)


def _divergence(
  algorithm: Algorithm, live: np.ndarray, ratios: np.ndarray
) -> dict[str, float]:
  """Mean of the [P * K] log-ratios, of what the policy itself has drawn."""
  places = [k for k, draw in enumerate(algorithm.draws) if draw == POLICY]
  if not places:
    return {}
  by_prompt = ratios.reshape(len(live), -1)[live]
  return {"kl_k1_nats": float(np.mean(by_prompt[:, places]))}


def response_texts(
  rollout: Rollout, decode: Decode, stop_ids: tuple[int, ...]
) -> list[str]:
  """The sampled responses as texts, without their stop token."""
  tokens, mask = jax.device_get(
    (rollout.sequences.tokens, rollout.sequences.mask)
  )
  responses = []
  for row, live in zip(tokens, mask):
    ids = row[live].tolist()
    responses.append(decode(ids[:-1] if ids and ids[-1] in stop_ids else ids))
  return responses
