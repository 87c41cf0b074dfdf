"""The implicit reward of a policy that was trained by DPO, as a judge."""

import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np

from jalign import data
from jalign.decode import bucket
from jalign.errors import UserError
from jalign.feedback.answers import Answers
from jalign.feedback.judge import Judge, checked_scale
from jalign.feedback.local_model import ROWS, Loaded, padded, parts_of, refused
from jalign.logprobs import sequence_logprobs
from jalign.sharding import fetch, spread
from jalign.types import Sequences


def from_implicit_reward(
  load: Callable[[], tuple[Loaded, Loaded]],
  *,
  beta: float = 0.1,
  scale: float = 1.0,
  rows: int = ROWS,
) -> Judge:
  """Makes a judge of beta log(pi(y|x) / ref(y|x)).

  Rafailov et al. 2023, "Direct Preference Optimization", arXiv:2305.18290,
  equation 5 without the term that depends on the prompt alone: with a scale of
  1, the preferences are those that DPO's loss is the likelihood of.

  Args:
    load: `() -> (policy, reference)`, called when the judge is first asked.
    beta: DPO's coefficient, > 0.
    scale: inverse temperature of the preferences, > 0.
    rows: number of responses that are scored at a time.

  Raises:
    UserError: beta is out of range; or, when it is asked, the tokenizers of the
      two models differ.
  """
  if not 0 < beta < float("inf"):
    raise UserError(f"{beta} must be > 0 and finite.", where="beta")

  @functools.cache
  def loaded() -> tuple[Loaded, Loaded]:
    policy, reference = load()
    mine, other = policy.tokenizer, reference.tokenizer
    if mine.backend.to_str() != other.backend.to_str():
      raise UserError(
        "the reference has another tokenizer: log-probs can't be compared.",
        where="reference",
        remedy="Name the model that the policy's training started from.",
      )
    return policy, reference

  def reward(answers: Answers) -> np.ndarray:
    policy, reference = loaded()
    encoded = _encoded(policy, answers.prompts, answers.texts)
    return beta * (
      response_logps(policy, encoded, rows)
      - response_logps(reference, encoded, rows)
    )

  return Judge(reward=reward, scale=checked_scale(scale), reads_tokens=True)


def response_logps(
  own: Loaded, encoded: Sequence[data.EncodedSequence], rows: int = ROWS
) -> np.ndarray:
  """[N] float64 log-probs (nats) of responses with their ends.

  Args:
    own: the model.
    encoded: N sequences, whose masks mark the responses.
    rows: number of responses that are scored at a time.
  """
  logps = np.zeros(len(encoded))
  for part in parts_of([len(x.ids) for x in encoded], rows):
    some = [encoded[i] for i in part]
    width = bucket(max(len(x.ids) for x in some))
    fill = np.full(width, own.tokenizer.pad_id, np.int32)
    tokens, _ = padded([*(x.ids for x in some), fill], own.tokenizer.pad_id)
    mask = np.zeros((len(part), width), bool)
    for row, x in zip(mask, some):
      row[: len(x.mask)] = x.mask
    lengths = np.array([len(x.ids) for x in some], np.int32)
    sequences = Sequences(*spread((tokens[:-1], mask, lengths)))
    scored = fetch(_score(own.model, own.params, sequences))
    logps[part] = scored.astype(np.float64)
  return logps


_score = jax.jit(sequence_logprobs, static_argnums=0)


def _encoded(
  own: Loaded, prompts: Sequence[str], texts: Sequence[str]
) -> list[data.EncodedSequence]:
  """Prompts and responses as the model reads them; nothing is cut."""
  records, template = [], own.template
  for i, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
    where, end = f"response {i}", None
    if template is not None and not template.plain:
      turns = [{"role": "user", "content": prompt}]
      said = [{"role": "assistant", "content": text}]
      prompt, text = refused(template.exchange, turns, said)
      end = template.end
    records.append(
      data.DemonstrationRecord(prompt, text, where, where, end=end)
    )
  limits = data.Limits(max_tokens=2**30)
  return data.encode_demonstrations(records, own.tokenizer, limits)[0]
