"""Online alignment: sample two responses, ask which is better, take a step.

An algorithm is a row of `ALGORITHMS`: who samples, what becomes of the
preference, which loss. The update is the offline one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jalign.data import PromptBatch
from jalign.decode import MixtureParams, Sampler, generate, geometric, sampler
from jalign.feedback import Annotator
from jalign.types import Array, Model, PairBatch, Params, Rollout

Decode = Callable[[Any], str]  # token ids -> text


class Algorithm(NamedTuple):
  """A row of the table.

  Attributes:
    loss: name in `losses.CATALOGUE`.
    mixture: sample from the geometric mixture with the reference, rather than
      from the policy.
    soft: give the loss the preference itself, rather than one Bernoulli draw
      that orders the pair.
    paper: where it comes from.
  """

  loss: str
  mixture: bool
  soft: bool
  paper: str


ALGORITHMS = {
  "online_dpo": Algorithm("dpo", False, False, "arXiv:2402.04792"),
  "online_ipo": Algorithm("ipo_soft", False, True, "arXiv:2403.08635"),
  "ipo_md": Algorithm("ipo_soft", True, True, "arXiv:2403.08635"),
}


class Sampled(NamedTuple):
  """One online batch.

  Attributes:
    pairs: P pairs, with the loss's orientation and soft labels.
    rollout: 2P rows, the two responses of a prompt adjacent.
    values: metrics of the sampling.
  """

  pairs: PairBatch
  rollout: Rollout
  values: dict[str, float]


def make_sampling(
  algorithm: Algorithm,
  model: Model,
  annotate: Annotator,
  decode: Decode,
  *,
  max_new_tokens: int,
  stop_ids: tuple[int, ...],
  pad_id: int = 0,
  mix_ref: float = 0.125,
  draw: Sampler | None = None,
) -> Callable[..., Sampled]:
  """Makes the step from prompts to annotated pairs.

  Every loss here is on the policy's own samples: keep the sampler at
  temperature 1 without truncation unless you mean to be off-policy.

  Args:
    algorithm: a row of `ALGORITHMS`.
    model: functions of policy and reference.
    annotate: judges texts, on the host.
    decode: token ids of a response, its stop token dropped -> text.
    max_new_tokens: of a response at most, the stop token included.
    stop_ids: tokens that end a response.
    pad_id: fills columns after a response.
    mix_ref: weight of the reference in the mixture, where there is one;
      Calandriello et al. 2024 select 0.125.
    draw: the sampler, temperature 1 by default.

  Returns:
    `(params, ref_params, prompts, key) -> Sampled`, with P prompts as a
    jalign.data.PromptBatch.
  """
  policy = geometric(model, model) if algorithm.mixture else model
  draw = draw or sampler()

  def sample(
    params: Params, ref_params: Params, prompts: PromptBatch, key: Array
  ) -> Sampled:
    texts = prompts.texts
    if algorithm.mixture:
      params = MixtureParams(params, ref_params, jnp.float32(mix_ref))
    sample_key, label_key = jax.random.split(key)
    rollout = generate(
      policy,
      params,
      jnp.repeat(jnp.asarray(prompts.tokens), 2, axis=0),
      jnp.repeat(jnp.asarray(prompts.lengths), 2, axis=0),
      jax.random.split(sample_key, 2 * len(texts)),
      max_new_tokens=max_new_tokens,
      stop_ids=stop_ids,
      pad_id=pad_id,
      draw=draw,
    )
    responses = response_texts(rollout, decode, stop_ids)
    a, b = responses[0::2], responses[1::2]
    preference = np.asarray(annotate(texts, a, b), np.float32)
    live = prompts.weights > 0
    twice = np.repeat(live, 2)
    counts = np.asarray(rollout.sequences.mask.sum(-1))
    values = {
      "response_tokens": float(np.mean(counts[twice])),
      "finished": float(np.mean(np.asarray(rollout.finished)[twice])),
      "preference_certainty": float(np.mean(np.abs(2 * preference - 1)[live])),
      "identical_pairs": float(
        np.mean([x == y for x, y, z in zip(a, b, live) if z])
      ),
    }
    sequences = rollout.sequences
    soft = None
    if algorithm.soft:
      # The likelier response first, so that "chosen" in the metrics means it;
      # a loss of soft labels doesn't change under the swap.
      soft = jnp.asarray(np.maximum(preference, 1.0 - preference))
      first_wins = preference >= 0.5
    else:
      uniforms = jax.random.uniform(label_key, (len(texts),))
      first_wins = np.asarray(uniforms) < preference
    if not first_wins.all():
      rows = np.arange(2 * len(texts)).reshape(-1, 2)
      order = np.where(first_wins[:, None], rows, rows[:, ::-1]).reshape(-1)
      sequences = jax.tree.map(lambda x: x[order], sequences)
    pairs = PairBatch(sequences, jnp.asarray(prompts.weights), preference=soft)
    return Sampled(pairs, rollout, values)

  return sample


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
