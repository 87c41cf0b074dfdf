"""Judges who must agree, grades of which the best and worst make a pair."""

import jax
import numpy as np
import pytest

from jalign.errors import UserError
from jalign.feedback import assess, from_batch, make_answers
from jalign.feedback.agreement import agreed, agreeing, best_and_worst
from jalign.feedback.implicit import from_implicit_reward
from tests.feedback.judged import judged
from tests.feedback.local_model_test import _loaded, _logp

NAN = float("nan")


def _says(*values):
  judge = from_batch(lambda prompts, a, b: list(values))
  return judge._replace(answers_all=not np.isnan(values).any())


def test_only_pairs_on_which_all_agree_have_an_answer():
  judges = {
    "grades": _says(0.9, 0.9, 0.5, NAN, 0.2),
    "implicit": _says(0.6, 0.4, 0.7, 0.9, 0.4),
  }
  judge = agreeing(judges)
  got = judged(judge, [*"pqrst"], [*"abcde"], [*"fghij"])
  np.testing.assert_allclose(got, [0.75, NAN, NAN, NAN, 0.3], rtol=1e-6)
  assert judge.counts() == {"pairs": 5, "pairs agreed on": 2}
  assert not judge.answers_all


def test_agreement_doesnt_depend_on_the_order_of_a_pair():
  rng = np.random.default_rng(0)
  p = rng.uniform(size=(3, 50))
  p[rng.uniform(size=p.shape) < 0.1] = NAN
  np.testing.assert_array_equal(agreed(p), agreed(1 - p))
  assert 0 < agreed(p).sum() < 50


def test_one_judge_alone_is_refused():
  with pytest.raises(UserError, match="two judges"):
    agreeing({"one": _says(0.5)})


def test_the_best_and_the_worst_of_the_graded_responses():
  best, worst = best_and_worst(
    [[3, 5, 1, 4], [2, 2, 2, 2], [NAN, 1, NAN, 0], [NAN, 1, NAN, NAN],
     [NAN] * 4, [5, 0, 5, 0]]
  )  # fmt: skip
  np.testing.assert_array_equal(best, [1, -1, 1, -1, -1, 0])
  np.testing.assert_array_equal(worst, [2, -1, 3, -1, -1, 1])


def test_the_implicit_reward_is_the_log_ratio_of_policy_and_reference():
  """The mark that ends the response counts; the prompt doesn't."""
  policy = _loaded()
  louder = jax.tree.map(lambda x: 1.5 * x, policy.params)
  reference = policy._replace(params=louder)
  judge = from_implicit_reward(lambda: (policy, reference), beta=0.2, rows=2)
  prompts, texts = ["a", "b c", "a"], [" no", " m M", " what"]
  told = assess(judge, make_answers(prompts, texts))
  end = policy.tokenizer.eos_id
  want = []
  for prompt, text in zip(prompts, texts):
    first = _logp(policy, prompt, text, end)
    second = _logp(policy, prompt, text, end, louder)
    want.append(0.2 * (first - second))
  np.testing.assert_allclose(told.numbers("reward"), want, atol=1e-4)
  assert judge.reads_tokens


def test_a_policy_is_its_own_reference_with_reward_0():
  own = _loaded()
  judge = from_implicit_reward(lambda: (own, own))
  told = assess(judge, make_answers(["a"], [" no"]))
  np.testing.assert_array_equal(told.numbers("reward"), [0])


@pytest.mark.parametrize("beta", [0, -1, float("inf")])
def test_beta_out_of_range(beta):
  with pytest.raises(UserError):
    from_implicit_reward(lambda: None, beta=beta)
