"""Language models that were trained to judge, by verdicts or by rewrites.

`jalign.data.judging` writes what they are trained on.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jalign import data
from jalign.data.judging import VERDICTS, rewrite_prompt, verdict_prompt
from jalign.feedback.answers import Answers
from jalign.feedback.judge import Judge, checked_scale
from jalign.feedback.local_model import ROWS, Loaded, parts_of, scored_after
from jalign.logprobs import token_statistics
from jalign.losses import centred_token_scores, divergence_scores
from jalign.sharding import fetch, spread
from jalign.types import Array, Model, Params, Sequences

_STEP = 32  # rows are padded to multiples of so many tokens


def from_verdicts(load: Callable[[], Loaded], *, rows: int = ROWS) -> Judge:
  """Makes a judge of a generative reward model.

  P(a > b) is p(A) / (p(A) + p(B)) at the place of the verdict, the mean of both
  orders, so that P(a > b) + P(b > a) is 1. Nothing is generated.

  Args:
    load: `() -> Loaded`, called when the judge is first asked.
    rows: number of prompts that are read at a time.
  """
  loaded = functools.cache(load)

  def preference(a: Answers, b: Answers) -> np.ndarray:
    return verdict_probabilities(loaded(), *a[:2], b.texts, rows).mean(1)

  return Judge(preference=preference, reads_tokens=True)


def verdict_probabilities(
  own: Loaded,
  prompts: Sequence[str],
  a: Sequence[str],
  b: Sequence[str],
  rows: int = ROWS,
) -> np.ndarray:
  """[N, 2] P(a > b), with a shown first and with b shown first.

  Args:
    own: the model.
    prompts: N texts.
    a: N responses.
    b: N other responses.
    rows: number of prompts that are read at a time.
  """
  sides = list(zip(prompts, a, b, strict=True))
  texts = [
    verdict_prompt(x, y, z) for x, *two in sides for y, z in (two, two[::-1])
  ]
  lengths = [len(text) for text in texts]
  gaps = np.zeros(len(texts))
  for part in parts_of(lengths, rows) if texts else ():
    logps = scored_after(own, [texts[i] for i in part], [VERDICTS] * len(part))
    both = np.array([np.nansum(x, -1) for x in logps])
    gaps[part] = both[:, 0] - both[:, 1]
  first = 1 / (1 + np.exp(-gaps.reshape(-1, 2)))
  return np.stack([first[:, 0], 1 - first[:, 1]], -1)


def from_rewrites(
  load: Callable[[], Loaded], *, scale: float = 1.0, rows: int = ROWS
) -> Judge:
  """Makes a judge of a seq2seq reward model: the sum of a response's scores.

  The tokens' scores are +1 or -1, divided by the length: our parametrisation of
  what the paper leaves open.

  Zhou et al. 2024, "Sequence to Sequence Reward Modeling: Improving RLHF by
  Language Feedback", arXiv:2409.00162.

  Args:
    load: `() -> Loaded`, called when the judge is first asked.
    scale: inverse temperature of the preferences.
    rows: number of responses that are read at a time.
  """
  loaded = functools.cache(load)

  def reward(answers: Answers) -> np.ndarray:
    scores = rewrite_scores(loaded(), *answers[:2], rows=rows)
    return np.array([x.sum(dtype=np.float64) for x in scores])

  return Judge(reward=reward, scale=checked_scale(scale), reads_tokens=True)


def rewrite_scores(
  own: Loaded,
  prompts: Sequence[str],
  responses: Sequence[str],
  *,
  centred: bool = False,
  rows: int = ROWS,
) -> list[np.ndarray]:
  """Scores of each response's tokens, its end of sequence included.

  The model reads prompt and response, and then the response once more, token by
  token. A token that the model would emit next itself scores +1 / length, any
  other token -1 / length. Up to the first difference the former are the tokens
  of the model's own greedy rewrite.

  Args:
    own: the model.
    prompts: N texts.
    responses: N texts.
    centred: whether tokens score their log-probs less their mean instead.
    rows: number of responses that are read at a time.

  Returns:
    N arrays [tokens] float32.
  """
  records = [
    data.DemonstrationRecord(rewrite_prompt(x, y), y, f"response {i}", "")
    for i, (x, y) in enumerate(zip(prompts, responses, strict=True))
  ]
  limits = data.Limits(max_tokens=2**30)
  encoded, _ = data.encode_demonstrations(records, own.tokenizer, limits)
  lengths = [data.sequence_length(example) for example in encoded]
  found: list[np.ndarray] = [np.zeros(0, np.float32)] * len(encoded)
  for part in parts_of(lengths, rows) if encoded else ():
    width = -(-max(lengths[i] for i in part) // _STEP) * _STEP
    batch = data.collate_sequences(
      [encoded[i] for i in part],
      len(part),
      width,
      pad_id=own.tokenizer.pad_id,
    )
    read = _reader(own.model, centred)
    scores = fetch(read(own.params, spread(batch.sequences)))
    for i, row in zip(part, scores, strict=True):
      found[i] = row[: lengths[i] - 1][encoded[i].mask[1:]]
  return found


@functools.lru_cache(maxsize=8)
def _reader(model: Model, centred: bool) -> Any:
  """The jitted `(params, sequences) -> [B, T - 1]` scores of tokens."""

  @jax.jit
  def read(params: Params, sequences: Sequences) -> Array:
    hidden = model.forward(params, sequences.tokens)[:, :-1]
    targets, mask = sequences.tokens[:, 1:], sequences.mask[:, 1:]
    found = token_statistics(hidden, model.head(params), targets, want=("top",))
    if centred:
      return centred_token_scores(found.logps, mask)
    assert found.top_token is not None
    return divergence_scores(targets, found.top_token, mask)

  return read
