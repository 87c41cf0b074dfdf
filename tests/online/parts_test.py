"""Rounds in parts: the same responses and verdicts."""

import jax
import numpy as np
import pytest

from jalign.errors import UserError
from jalign.feedback import from_batch, from_reward
from jalign.online import ALGORITHMS, make_round
from jalign.online.parts import slices
from tests.online.iterate_test import NEW, _decode, _model, _prompts


def _played(parts, judge, rows=None):
  play = make_round(
    ALGORITHMS["ipo_md"],
    _model()[0],
    judge,
    _decode,
    max_new_tokens=NEW,
    stop_ids=(),
    judge_parts=parts,
  )
  params = _model()[0].init(jax.random.key(0))
  return play(params, params, _prompts(6, fill=1), jax.random.key(3), rows=rows)


def test_parts_change_no_response_and_no_verdict():
  asked = []

  def reward(prompt, response, row):
    asked.append(prompt)
    return row["bonus"] + len(set(response.split())) + 0.1 * len(prompt)

  rows = [{"bonus": float(i)} for i in range(6)]
  judge = from_reward(reward)
  whole, parted = (_played(n, judge, rows) for n in (1, 3))
  assert len(asked) == 2 * 6 * 2  # each response is judged once
  for a, b in zip(
    jax.tree.leaves(whole.rollout), jax.tree.leaves(parted.rollout)
  ):
    np.testing.assert_allclose(a, b, atol=1e-5)
  for a, b in zip(
    jax.tree.leaves(whole.batches), jax.tree.leaves(parted.batches)
  ):
    np.testing.assert_allclose(a, b, atol=1e-5)
  assert whole.values.keys() == parted.values.keys()
  for name, value in whole.values.items():
    np.testing.assert_allclose(parted.values[name], value, atol=1e-5)
  times = {f"time/{n}_seconds" for n in ("update", "sampling", "judging")}
  assert times <= whole.seconds.keys()
  assert all(x >= 0 for x in whole.seconds.values())


def test_prompts_that_do_not_divide_are_refused():
  assert slices(6, 2) == [slice(0, 3), slice(3, 6)]
  for parts in (4, 0):
    with pytest.raises(UserError, match="6 prompts don't divide"):
      slices(6, parts)


def test_a_part_without_an_answer_is_left_out():
  asked = []

  def preference(prompts, a, b):
    asked.append(prompts)
    unread = {"prompt 0", "prompt 1"}
    return [np.nan if x in unread else 0.9 for x in prompts]

  judge = from_batch(preference)._replace(answers_all=False)
  played = _played(3, judge)
  assert len(asked) == 3 and asked[0] == ["prompt 0", "prompt 1"]
  (batch,) = played.batches
  np.testing.assert_array_equal(batch.weights, [0, 0, 1, 1, 1, 0])
  nothing = from_batch(lambda *x: [np.nan] * len(x[0]))
  with pytest.raises(UserError, match="answered all that was asked"):
    _played(3, nothing._replace(answers_all=False))
