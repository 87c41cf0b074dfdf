"""One round of online alignment: draw, judge, arrange.

Where there are several processes, all play a round together: with the same
prompts and the same key, each has the same texts, verdicts and metrics, while
the rows of rollouts and batches are split over the mesh.

There are P prompts, K responses to each, and J pairs of draws to compare.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jalign.data import PromptBatch
from jalign.decode import Sampler
from jalign.feedback import Judge
from jalign.feedback.answers import Row
from jalign.glossary import in_section
from jalign.online.algorithm import Algorithm
from jalign.online.arrange import Judged
from jalign.online.draws import (
  REFERENCE,
  Cast,
  draw_responses,
  no_reference,
)
from jalign.online.judging import (
  Verdict,
  check_answered,
  check_judge,
  check_places,
  judge_responses,
)
from jalign.online.parts import join_rollouts, join_verdicts, slices
from jalign.online.round_metrics import divergence, measured
from jalign.online.segments import listed_answers, token_rewards
from jalign.online.unfinished import KEPT, Unfinished, check_unfinished
from jalign.online.updates import cut
from jalign.sharding import fetch
from jalign.training import packed
from jalign.training.critic import critic_of, policy_of, token_values
from jalign.training.misuse import check_record
from jalign.types import Array, Model, Params, Rollout

Decode = Callable[[Any], str]  # token ids -> text


class Clock:
  """Adds up the seconds between laps, by name.

  Attributes:
    seconds: seconds by name.
  """

  def __init__(self):
    self.seconds: dict[str, float] = {}
    self._last = time.perf_counter()

  def lap(self, name: str) -> None:
    """Counts the seconds since the last lap under a name."""
    now = time.perf_counter()
    self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
    self._last = now


class Round(NamedTuple):
  """The results of one round.

  Attributes:
    batches: the batches of the round's updates, of the kind that the
      algorithm's loss takes.
    rollout: P * K rows, the responses of a prompt adjacent.
    values: metrics of the round: `rollouts/...`, with
      `jalign.feedback.reward_statistics` under a judge of a reward or a cost,
      and `algorithm/...`, what the algorithm measures.
    seconds: how the round's time divides, `time/...`: sampling, in which the
      host waits for responses; judging; the reference, for log-probs that an
      algorithm records; the critic, for values; updates of the round before,
      for which the host waits.
  """

  batches: tuple[Any, ...]
  rollout: Rollout
  values: dict[str, float]
  seconds: dict[str, float]


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
  whole: Callable[[Params], Params] = policy_of,
  critic: Callable[[Params], Params] = critic_of,
  judge_parts: int = 1,
  unfinished: Unfinished = KEPT,
) -> Callable[..., Round]:
  """Makes the function that plays a round: from prompts to batches of updates.

  Every loss here is on the policy's own samples: keep the sampler at
  temperature 1 without truncation unless you intend to be off-policy.

  Args:
    algorithm: a row of `ALGORITHMS`, or an `Algorithm` of your own.
    model: functions of all models that draw: the policy, the reference, others.
    judge: judge of the responses, with the functions that the algorithm needs.
    decode: `token ids of a response, without its stop token -> text`.
    max_new_tokens: the most tokens of a response, the stop token included.
    stop_ids: tokens that end a response.
    pad_id: token id that fills the columns after a response.
    mix_ref: weight of the reference for draws whose own mix_ref is None;
      Calandriello et al. 2024 select 0.125, as do Munos et al. 2023. At 0
      Nash-MD is self-play, at 1 it approaches the best response to the
      reference.
    draw: the sampler, temperature 1 by default.
    slots: number of responses that are decoded at a time; see
      `jalign.decode.generate`.
    whole: `trained parameters -> a policy's parameters`, for runs that train
      only a part of the parameters or a low-rank change; it returns a policy's
      parameters unchanged.
    critic: `trained parameters -> a critic's parameters`, for rows that train
      a critic; by default those that the trained parameters hold.
    judge_parts: number of parts of the prompts; while the judge works on a part
      on the host, the devices sample the next. The responses are the same, up
      to the rounding of batches of another size.
    unfinished: what becomes of the rewards of responses that didn't end.

  Returns:
    `(params, ref_params, prompts, key, carry=(), rows=None) -> Round`, with P
    prompts as a jalign.data.PromptBatch and P rows of the data for the judge.
    `ref_params` are the parameters that training started from.

  Raises:
    UserError: the judge lacks a function that the algorithm needs, or the
      algorithm compares draws that it doesn't make.
  """
  check_places(algorithm.needs, len(algorithm.draws))
  check_judge(judge, algorithm.needs, "the algorithm")
  check_unfinished(unfinished, judge, "unfinished")

  def play(
    params: Params,
    ref_params: Params,
    prompts: PromptBatch,
    key: Array,
    carry: Any = (),
    rows: Sequence[Row] | None = None,
  ) -> Round:
    check_record(prompts)
    # The third key is made by fold_in, so that it differs from the first two.
    draw_key, arrange_key = jax.random.split(key)
    order_key = jax.random.fold_in(key, 2)

    clock = Clock()
    jax.block_until_ready(params)
    clock.lap("time/update_seconds")
    reference = algorithm.reference(carry, ref_params)
    parts = slices(len(prompts.lengths), judge_parts)
    rollouts = [
      draw_responses(
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
        rows=part,
      )
      for part in parts
    ]
    responses: list[str] = []
    verdicts: list[Verdict] = []
    for part, some in zip(parts, rollouts):
      texts = response_texts(some, decode, stop_ids)
      clock.lap("time/sampling_seconds")
      own = rows and rows[part]
      verdicts.append(
        judge_responses(
          judge,
          algorithm.needs,
          prompts.texts[part],
          texts,
          some,
          own,
          a_part=len(parts) > 1,
          unfinished=unfinished,
        )
      )
      clock.lap("time/judging_seconds")
      responses += texts
    rollout = join_rollouts(rollouts)
    verdict = join_verdicts(verdicts, len(algorithm.draws))

    live = prompts.weights > 0
    check_answered(verdict, live)
    values = measured(algorithm, live, rollout, responses, verdict)

    judged = Judged(
      rollout,
      verdict.rewards,
      verdict.costs,
      verdict.preference,
      # A prompt about which the judge gave no answer teaches nothing.
      prompts.weights * verdict.answered.astype(np.float32),
      carry,
      arrange_key,
      parts=verdict.parts,
    )
    if algorithm.needs.segments:
      answers = listed_answers(prompts.texts, responses, rows)
      judged = judged._replace(
        token_rewards=token_rewards(judge, answers, rollout, decode, unfinished)
      )
      clock.lap("time/judging_seconds")
    if algorithm.scored:
      cast = Cast(params, reference, carry)
      logps = _scored(algorithm, model, cast, whole, rollout)
      judged = judged._replace(logps=logps)
      if REFERENCE.name in logps:
        ratios = jnp.sum(judged.old_token_logps - logps[REFERENCE.name], -1)
        values |= divergence(algorithm, live, fetch(ratios))
      clock.lap("time/reference_seconds")

    if algorithm.critic:
      judged = judged._replace(
        values=value_tokens(model, critic(params), rollout.sequences)
      )
      clock.lap("time/critic_seconds")

    of_row = algorithm.measure(judged)
    values = in_section("rollouts", values) | in_section(
      "algorithm", {name: float(value) for name, value in of_row.items()}
    )

    seconds = clock.seconds
    sampled = values["rollouts/response_tokens"] * len(algorithm.draws)
    speed = sampled * live.sum() / max(seconds["time/sampling_seconds"], 1e-9)
    seconds["time/sampled_tokens_per_second"] = float(speed)
    batch = algorithm.arrange(judged)
    batches = cut(batch, algorithm.updates, order_key, len(live))
    return Round(batches, rollout, values, seconds)

  return play


score_tokens = jax.jit(packed.token_logps, static_argnums=0)
value_tokens = jax.jit(token_values, static_argnums=0)


def _scored(
  algorithm: Algorithm,
  model: Model,
  cast: Cast,
  whole: Callable[[Params], Params],
  rollout: Rollout,
) -> dict[str, Array]:
  """Log-probs [P * K, T - 1] of the responses under the models of `scored`."""
  found = {}
  for scorer in algorithm.scored:
    params = scorer.params(cast)
    if params is None:
      raise no_reference(f"takes log-probs under the {scorer.name}")
    found[scorer.name] = score_tokens(model, whole(params), rollout.sequences)
  return found


def response_texts(
  rollout: Rollout, decode: Decode, stop_ids: tuple[int, ...]
) -> list[str]:
  """The sampled responses as texts, without their stop token.

  Where there are several processes, all call this together.
  """
  tokens, mask = fetch((rollout.sequences.tokens, rollout.sequences.mask))
  responses = []
  for row, live in zip(tokens, mask):
    ids = row[live].tolist()
    responses.append(decode(ids[:-1] if ids and ids[-1] in stop_ids else ids))
  return responses
