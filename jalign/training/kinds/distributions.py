"""Next-token distributions of a student and of a teacher that has a context.

The teacher is the reference. It reads a context, the prompt and the response;
the student reads the prompt and the response. Both score the response's tokens,
which lie at different places of their rows.
"""

import jax.numpy as jnp

from jalign import data, logprobs
from jalign.losses.distillation import TOP_CLASSES
from jalign.training.kinds.kind import Arrays, Kind, Reading, Sums, mean
from jalign.training.outputs import Outputs, counts_of
from jalign.types import Array


def aligned(states: Array, context: Array, mask: Array) -> Array:
  """Moves states of tokens behind a context to the tokens' places without it.

  Args:
    states: [B, T', D] states that predict tokens of rows with a context.
    context: [B, T'] bool, the scored ones of these tokens.
    mask: [B, T] bool, the scored tokens of rows without the context, as many in
      each row.

  Returns:
    [B, T, D]; states where a token isn't scored mean nothing.
  """
  places = jnp.argsort(~context, axis=-1, stable=True)  # scored tokens first
  number = jnp.maximum(jnp.cumsum(mask, -1) - 1, 0)
  at = jnp.take_along_axis(places, number, -1, mode="clip")
  return jnp.take_along_axis(states, at[..., None], 1, mode="clip")


def _arrays(
  outputs: Outputs, batch: data.ContextBatch, names: tuple[str, ...]
) -> Arrays:
  mask = batch.sequences.mask[:, 1:]
  arrays: Arrays = {"mask": mask}
  states, ref_head = outputs.ref_states_of(batch.context)
  states = aligned(states, batch.context.mask[:, 1:], mask)
  both = outputs.hidden(), outputs.head(), states, ref_head
  if "context_kl" in names:
    kl = logprobs.token_forward_kl(*both)
    arrays["context_kl"] = jnp.where(mask, kl, 0.0)
  if "top_logps" in names or "ref_top_logps" in names:
    top = logprobs.top_logprobs(*both, TOP_CLASSES)
    arrays["top_logps"], arrays["ref_top_logps"] = top
  return arrays


def _observe(arrays: Arrays, weights: Array) -> Sums:
  tokens, count = mean(jnp.sum(arrays["mask"], -1), weights)
  metrics: Sums = {"response_tokens": (tokens, count)}
  if "context_kl" in arrays:
    kl, _ = mean(jnp.sum(arrays["context_kl"], -1), weights)
    metrics["context_kl_nats_per_token"] = (kl, tokens)
  return metrics


DISTRIBUTIONS = Kind(
  name="distributions",
  about="whole next-token distributions of several models",
  gives={
    # KL(reference behind the context || policy) of each token.
    "context_kl": "BT",
    # Log-probs of the classes that are likeliest under the reference behind the
    # context; the last one is the class of all others.
    "top_logps": "BTC",
    "ref_top_logps": "BTC",
    "mask": "BT bool",
  },
  arrays=_arrays,
  observe=_observe,
  counts={"tokens": lambda batch: counts_of(batch.sequences)},
  elsewhere={
    "student_logits": "BTV",
    "dpo_logits": "BTV",
    "reverse_dpo_logits": "BTV",
    "ref_logits": "BTV",
  },
  records={
    "contexts": Reading(
      data.collate_contexts,
      data.context_length,
      options=lambda examples, part: {
        "lead": data.context_lead([*examples("train"), *examples("eval")])
      },
    )
  },
  referenced=("context_kl",),
  advice="Give demonstrations a context: set data.context to a text file, or"
  " name a column, data.columns={'context': COLUMN}.",
)
