"""Rewards of segments as rewards of tokens."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jalign.feedback import Answers, Judge, make_answers
from jalign.feedback.answers import Row
from jalign.feedback.segments import places_of, read_segments
from jalign.online.unfinished import KEPT, Unfinished
from jalign.sharding import fetch
from jalign.types import Array, Rollout


def listed_answers(
  prompts: Sequence[str],
  responses: Sequence[str],
  rows: Sequence[Row] | None = None,
) -> Answers:
  """P * K answers, those of a prompt adjacent.

  Args:
    prompts: P texts.
    responses: P * K texts.
    rows: P rows of the data, or None.
  """
  size = len(responses) // len(prompts)
  of = [i for i in range(len(prompts)) for _ in range(size)]
  return make_answers(
    [prompts[i] for i in of],
    responses,
    None if rows is None else [rows[i] for i in of],
  )


def token_rewards(
  judge: Judge,
  answers: Answers,
  rollout: Rollout,
  decode: Callable[[Any], str],
  unfinished: Unfinished = KEPT,
) -> Array:
  """[R, T - 1] rewards of tokens 1 .. T - 1: a segment's on its last token.

  Args:
    judge: a judge with rewards of segments.
    answers: the R responses as texts, in the rows' order.
    rollout: the same responses as tokens.
    decode: `token ids -> text`.
    unfinished: what becomes of the rewards of responses that didn't end: their
      last token gets it.

  Raises:
    UserError: the judge gives something else than segments of the texts.
  """
  assert judge.segments is not None  # check_judge saw to it
  found = read_segments(judge.segments(answers), answers.texts)
  tokens, mask, finished = fetch(
    (rollout.sequences.tokens, rollout.sequences.mask, rollout.finished)
  )
  rewards = np.zeros(mask.shape, np.float32)
  for i, (segments, text) in enumerate(zip(found, answers.texts)):
    columns = np.flatnonzero(mask[i])
    if not columns.size or not segments:
      continue
    ids = tokens[i][columns].tolist()
    places = places_of(ids, [end for end, _ in segments], text, decode)
    np.add.at(rewards[i], columns[places], [r for _, r in segments])
  rewards = rewards[:, 1:]
  if unfinished.changes():
    rewards = unfinished.token_rewards(rewards, finished, mask[:, 1:])
  return jnp.asarray(rewards, jnp.float32)
