"""A round in which the judge leaves some prompts without an answer."""

import jax
import numpy as np
import pytest

from jalign.errors import UserError
from jalign.feedback import Judge, from_batch, from_rewards
from jalign.online import ALGORITHMS, Updates
from tests.online import toys
from tests.online.toy_rounds import P, reward, round_of, six_prompts, tiny_model

NAN = float("nan")


def _play(algorithm, judge):
  params = tiny_model()[1]
  play = round_of(algorithm, judge)
  return play(params, params, six_prompts(), jax.random.key(3))


def _batch(preference):
  """A preference for all prompts, by the number of the prompt."""
  judge = from_batch(
    lambda prompts, a, b: [preference[int(p[-1])] for p in prompts]
  )
  return judge._replace(answers_all=not np.isnan(preference).any())


def test_a_prompt_without_an_answer_has_no_weight():
  full = np.array([0.0, 0.2, 0.9, 1.0, 0.6, 0.7])
  some = np.where(np.arange(P) % 2, NAN, full)
  algorithm = ALGORITHMS["online_ipo"]
  whole = _play(algorithm, _batch(full))
  part = _play(algorithm, _batch(some))
  np.testing.assert_array_equal(part.batches[0].weights, [1, 0, 1, 0, 1, 0])
  np.testing.assert_array_equal(whole.batches[0].weights, np.ones(P))
  np.testing.assert_array_equal(
    part.rollout.sequences.tokens, whole.rollout.sequences.tokens
  )
  assert part.values["rollouts/unanswered_share"] == 0.5
  assert "rollouts/unanswered_share" not in whole.values
  want = np.mean(np.abs(2 * full[::2] - 1))
  got = part.values["rollouts/preference_certainty"]
  np.testing.assert_allclose(got, want, rtol=1e-6)


def test_a_missing_reward_takes_its_whole_prompt_out():
  def rewards(prompts, texts, rows):
    first = {}
    return [
      NAN if p.endswith("2") and first.setdefault(p, x) is x else reward(p, x)
      for p, x in zip(prompts, texts)
    ]

  judge = from_rewards(rewards)._replace(answers_all=False)
  whole = toys.RLOO._replace(updates=Updates())
  round_ = _play(whole, judge)
  weights = np.asarray(round_.batches[0].weights)
  np.testing.assert_array_equal(weights, [1, 1, 0, 1, 1, 1])
  for x in jax.tree.leaves(round_.batches[0]):
    assert np.isfinite(np.asarray(x)).all()


def test_a_round_without_any_answer_is_an_error():
  judge = Judge(
    preference=lambda a, b: np.full(len(a.texts), NAN), answers_all=False
  )
  with pytest.raises(UserError, match="none of 6 pairs"):
    _play(ALGORITHMS["online_ipo"], judge)
