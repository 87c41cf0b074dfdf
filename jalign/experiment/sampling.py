"""Samples texts for held-out prompts."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jalign import data
from jalign.decode import generate
from jalign.experiment.config.ranges import draw_of
from jalign.experiment.config.settings import SamplerSettings
from jalign.logprobs import sequence_logprobs
from jalign.online import response_texts
from jalign.sharding import batch_ways, fetch
from jalign.training.progress import Progress
from jalign.types import Model, Params, Sequences

ROWS = 64  # responses that are decoded at once


class SampledTexts(NamedTuple):
  """K responses to each of N prompts; a prompt's responses are adjacent.

  Attributes:
    prompts: N * K prompts, as annotators see them.
    prompt_ids: [N * K] number of each response's prompt. Prompts that differ
      only by their goal share a number, since intervals cluster by it.
    texts: N * K responses.
    tokens: [N * K] lengths in tokens, including the stop token.
    finished: share of the responses that ended with a stop token.
    logps: [N * K] log-probs under the model, nats.
    sources: N * K places of the prompts in the data.
    ref_logps: [N * K] log-probs under the reference, nats; None without a
      reference.
    sequences: N * K rows of tokens, on the host; None unless asked for.
  """

  prompts: list[str]
  prompt_ids: np.ndarray
  texts: list[str]
  tokens: np.ndarray
  finished: float
  logps: np.ndarray
  sources: list[str]
  ref_logps: np.ndarray | None = None
  sequences: Sequences | None = None


def sample_texts(
  model: Model,
  params: Params,
  tokenizer: Any,
  prompts: Sequence[data.EncodedPrompt],
  settings: SamplerSettings,
  *,
  seed: int,
  ref_params: Params | None = None,
  rows: int = ROWS,
  keep_tokens: bool = False,
  description: str = "",
) -> SampledTexts:
  """Samples `settings.per_prompt` responses to each prompt.

  Within a mesh the rows are split over its batch axes. Where there are several
  processes, all call this together, and all get all samples.

  Args:
    model: the policy's functions.
    params: the policy's parameters.
    tokenizer: a tokenizer of `jalign.data`.
    prompts: encoded prompts.
    settings: how responses are drawn.
    seed: seed of the draws; row i uses the i-th key, whatever `rows` is.
    ref_params: parameters of a reference that scores the samples, too.
    rows: number of rows decoded at once, rounded up to what the mesh divides.
    keep_tokens: whether to keep the rows of tokens, as some judges need.
    description: title of the progress bar; "" shows none.
  """
  draw = draw_of(settings)
  repeated = [p for p in prompts for _ in range(settings.per_prompt)]
  keys = jax.random.split(jax.random.key(seed), len(repeated))
  batch = data.collate_prompts(repeated, pad_id=tokenizer.pad_id)
  texts: list[str] = []
  parts: list[dict[str, Any]] = []
  rows = -(-rows // batch_ways()) * batch_ways()
  progress = Progress(description, "response", len(repeated))
  for start in range(0, len(repeated), rows):
    # The last part is filled up with the first rows, so that one shape serves.
    at = np.arange(start, start + rows) % len(repeated)
    live = min(rows, len(repeated) - start)
    rollout = generate(
      model,
      params,
      batch.tokens[at],
      batch.lengths[at],
      keys[at],
      max_new_tokens=settings.max_new_tokens,
      stop_ids=tokenizer.end_ids,
      pad_id=tokenizer.pad_id,
      draw=draw,
    )
    responses = response_texts(rollout, tokenizer.decode, tokenizer.end_ids)
    texts += responses[:live]
    scored = None
    if ref_params is not None:
      scored = _score(model, ref_params, rollout.sequences)
    drawn = fetch(
      {
        "counts": rollout.sequences.mask.sum(-1),
        "logps": rollout.model_logps[0].sum(-1),
        "ref_logps": scored,
        "finished": rollout.finished,
        "sequences": rollout.sequences if keep_tokens else None,
      }
    )
    parts.append(jax.tree.map(lambda x, live=live: x[:live], drawn))
    progress.update(live)
  progress.close()
  drawn = jax.tree.map(lambda *x: np.concatenate(x), *parts)
  return SampledTexts(
    batch.texts,
    np.repeat(_numbers(prompts), settings.per_prompt),
    texts,
    drawn["counts"],
    float(np.mean(drawn["finished"])),
    drawn["logps"],
    [prompt.source for prompt in repeated],
    drawn["ref_logps"],
    drawn["sequences"],
  )


def _numbers(prompts: Sequence[data.EncodedPrompt]) -> list[int]:
  """For each prompt, the index of the first that annotators see alike."""
  first: dict[str, int] = {}
  return [first.setdefault(p.text, i) for i, p in enumerate(prompts)]


_score = jax.jit(sequence_logprobs, static_argnums=0)
