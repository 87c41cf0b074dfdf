"""A round whose judge tells the parts of its reward."""

import jax
import numpy as np

from jalign.feedback import from_reward
from jalign.feedback.combine import weighted
from jalign.online import ALGORITHMS
from tests.online.toy_rounds import reward, round_of, six_prompts, tiny_model


def test_the_means_of_a_rewards_parts_are_logged():
  judges = {
    "own": from_reward(reward),
    "prompt": from_reward(lambda prompt, x: float(prompt[-1])),
  }
  judge = weighted(judges, {"own": 2.0, "prompt": -1.0})
  params = tiny_model()[1]
  play = round_of(ALGORITHMS["online_ipo"], judge)
  values = play(params, params, six_prompts(), jax.random.key(3)).values
  assert values["rollouts/part_prompt_mean"] == np.mean(range(6))
  np.testing.assert_allclose(
    values["rollouts/reward_mean"],
    2 * values["rollouts/part_own_mean"] - values["rollouts/part_prompt_mean"],
    rtol=1e-6,
  )
