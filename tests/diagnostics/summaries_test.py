"""Panels: each number by name, against its definition."""

import jax.numpy as jnp
import numpy as np

from jalign import diagnostics
from jalign.diagnostics.policy import TopK
from jalign.evaluation.likelihood import PairScores


def _scores(chosen, rejected):
  return PairScores(
    np.asarray(chosen, np.float64),
    np.asarray(rejected, np.float64),
    np.array([5, 4, 10, 2]),
    np.array([5, 8, 2, 2]),
    ("a", "b", "c", "d"),
  )


def test_the_likelihood_panel():
  reference = _scores([-10, -8, -20, -3], [-12, -7, -4, -3])
  policy = _scores([-11, -7, -21, -3], [-14, -9, -3, -3])
  got = diagnostics.likelihood_panel(policy, reference, beta=0.5)
  # log-ratios are -1, 1, -1, 0 for the chosen and -2, -2, 1, 0 for the rejected
  assert got["chosen_log_ratio_nats"] == -0.25
  assert got["rejected_log_ratio_nats"] == -0.75
  assert got["displaced_share"] == 0.5 and got["both_fell_share"] == 0.25
  assert got["ranking_accuracy"] == (1 + 1 + 0 + 0.5) / 4
  # per token: -2.2 > -2.8, -1.75 < -1.125, -2.1 < -1.5, and equal
  assert got["ranking_accuracy_per_token"] == (1 + 0 + 0 + 0.5) / 4
  assert got["reward_accuracy"] == (1 + 1 + 0 + 0.5) / 4
  assert got["chosen_log_ratio_p50_nats"] == -0.5
  # At the optimum log-odds gain logit(0.999) / 0.5 = 13.8. That is enough for
  # all pairs but the third, which is 16 nats the wrong way.
  assert got["idealised_accuracy"] == 0.75
  without = diagnostics.likelihood_panel(policy, reference)
  assert set(got) - set(without) == {
    "calibration_ece",
    "calibration_mce",
    "idealised_accuracy",
  }


def test_the_realised_panel():
  up, down = np.array([1.0, 1.0, -1.0, -2.0]), np.array([-1.0, 0.5, -1.0, 3.0])
  got = diagnostics.realised_panel(up, down, np.array([0, 0, 2, 2]))
  assert got["chosen_change_nats"] == -0.25
  assert got["rejected_change_nats"] == 0.375
  for case in diagnostics.SHARES:
    assert got[f"{case}"] == 0.25
  assert got["as_forecast_share"] == 0.5
  assert "as_forecast_share" not in diagnostics.realised_panel(up, down)


def test_the_policy_panel_averages_tokens_then_responses():
  mask = np.array([[False, True, True, True], [False, True, False, False]])
  entropy = jnp.array([[9.0, 1.0, 2.0, 3.0], [9.0, 4.0, 9.0, 9.0]])
  mass = jnp.where(jnp.asarray(mask), 0.5, 7.0)
  got = diagnostics.policy_panel(
    TopK(entropy, 2 * entropy, mass), 3 * entropy, mask
  )
  assert got == {
    "top_k_entropy_bits": 3.0,
    "top_k_entropy_renormalised_bits": 6.0,
    "top_k_mass": 0.5,
    "kl_nats_per_token": 9.0,
  }


def test_the_entanglement_panel():
  group = lambda *x: {"all": np.array(x, np.float32)}
  products = diagnostics.Products(group(4, 4), group(1, 16), group(1, 6))
  ones = jnp.ones(2)
  said = diagnostics.forecast(
    *(jnp.asarray(x["all"]) for x in products), ones, ones
  )
  got = diagnostics.entanglement_panel(products, {"all": said})
  np.testing.assert_allclose(got["all/cosine"], (0.5 + 0.75) / 2)
  np.testing.assert_allclose(got["all/chosen_norm"], 2)
  np.testing.assert_allclose(got["all/rejected_norm"], 2.5)
  # inner = 1 equals the smaller square, the edge; 6 is between 4 and 16.
  np.testing.assert_allclose(got["all/cosine_threshold"], 0.5)
  assert got["all/both_down_share"] == 0.5
