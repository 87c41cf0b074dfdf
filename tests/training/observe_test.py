"""Metrics besides the loss, for numbers that are worked out by hand."""

import math

import jax.numpy as jnp
import pytest

from jalign import losses
from jalign.data import ScoreBatch
from jalign.training.kinds import KINDS
from jalign.training.kinds.ratios import clips_of, observe_ratios
from jalign.training.kinds.score_metrics import of_objectives


def _means(kind, arrays, weights):
  """Name -> mean, for arrays that are given as lists."""
  arrays = {name: jnp.array(values) for name, values in arrays.items()}
  sums = KINDS[kind].observe(arrays, jnp.array(weights))
  return {name: float(total / count) for name, (total, count) in sums.items()}


NAN = float("nan")  # values of a row that only fills the batch


def test_pairs():
  got = _means(
    "pairs",
    {
      "chosen_logps": [-4.0, -2.0, -5.0, NAN],
      "rejected_logps": [-5.0, -3.0, -5.0, NAN],
      "ref_chosen_logps": [-5.0, -5.0, -5.0, NAN],
      "ref_rejected_logps": [-3.0, -1.0, -4.0, NAN],
      "chosen_lengths": [2.0, 4.0, 6.0, 9.0],
      "rejected_lengths": [1.0, 1.0, 4.0, 9.0],
    },
    [1.0, 1.0, 1.0, 0.0],
  )
  assert got == pytest.approx(
    {
      "chosen_logps_nats": -11 / 3,
      "rejected_logps_nats": -13 / 3,
      "ranking_accuracy": (1 + 1 + 0.5) / 3,
      "chosen_tokens": 4,
      "rejected_tokens": 2,
      "chosen_log_ratio_nats": (1 + 3 + 0) / 3,
      "rejected_log_ratio_nats": (-2 - 2 - 1) / 3,
      "margin_nats": (3 + 5 + 1) / 3,
      "reward_accuracy": 1,
    }
  )


def test_segments_are_pairs_whose_first_is_the_chosen_one():
  got = _means(
    "segments",
    {
      "step_logps": [[[-1.0, -2.0], [-4.0, 0.0]]],
      "ref_step_logps": [[[-2.0, -2.0], [-2.0, 0.0]]],
      "mask": [[[True, True], [True, False]]],
    },
    [1.0],
  )
  assert got["chosen_logps_nats"] == -3 and got["rejected_logps_nats"] == -4
  assert got["chosen_tokens"] == 2 and got["rejected_tokens"] == 1
  assert got["chosen_log_ratio_nats"] == 1 and got["margin_nats"] == 3


LISTS = {
  "scores": [[1.0, 3.0, 2.0], [5.0, 4.0, 9.0]],
  "valid": [[True, True, True], [True, True, False]],
}


@pytest.mark.parametrize("kind", ["lists", "ranked_segments"])
def test_lists(kind):
  arrays = {
    "logps": [[-3.0, -1.0, -2.0], [-6.0, -4.0, 0.0]],
    "ref_logps": [[-2.0, -4.0, -1.0], [-9.0, -3.0, 0.0]],
    "lengths": [[1.0, 2.0, 3.0], [4.0, 5.0, 9.0]],
  }
  if kind == "ranked_segments":
    halves = {k: [[[x - 1, 1.0] for x in row] for row in rows]
              for k, rows in arrays.items() if k != "lengths"}  # fmt: skip
    arrays = {
      "step_logps": halves["logps"],
      "ref_step_logps": halves["ref_logps"],
      "mask": [
        [[i < int(x) for i in range(9)] for x in row]
        for row in arrays["lengths"]
      ],
    }
  got = _means(kind, arrays | LISTS, [1.0, 1.0])
  assert got == pytest.approx(
    {
      "logps_nats": (-6 - 10) / 5,
      "best_logps_nats": (-1 - 6) / 2,
      # The first list has three ordered pairs, the second has one.
      "ranking_accuracy": (3 + 0) / 4,
      "responses_count": 2.5,
      "response_tokens": 15 / 5,
      "log_ratio_nats": ((-1 + 3 - 1) + (3 - 1)) / 5,
      "best_log_ratio_nats": (3 + 3) / 2,
      "reward_accuracy": (2 + 0.5 * 0 + 1 + 0.5) / 4,
    }
  )


def test_labelled_responses():
  got = _means(
    "unpaired",
    {
      "logps": [-2.0, -4.0, -6.0, NAN],
      "ref_logps": [-3.0, -2.0, -9.0, NAN],
      "lengths": [1.0, 2.0, 3.0, 9.0],
      "desirable": [True, False, True, True],
      "mismatched_logps": [-7.0, -8.0, -9.0, NAN],
      "ref_mismatched_logps": [-6.0, -6.0, -6.0, NAN],
      "mismatched_cut": [3.0, 0.0, 0.0, 9.0],
      "unmatched": [0.0, 1.0, 0.0, 1.0],
    },
    [1.0, 1.0, 1.0, 0.0],
  )
  assert got == pytest.approx(
    {
      "desirable_logps_nats": -4,
      "undesirable_logps_nats": -4,
      "desirable_share": 2 / 3,
      "response_tokens": 2,
      "desirable_log_ratio_nats": (1 + 3) / 2,
      "undesirable_log_ratio_nats": -2,
      "mismatched_log_ratio_nats": -2,
      "mismatched_cut_tokens": 1,
      "unmatched_share": 1 / 3,
    }
  )


def test_single_responses():
  got = _means(
    "sequences",
    {
      "logps": [-2.0, -4.0, NAN],
      "ref_logps": [-3.0, -7.0, NAN],
      "lengths": [1.0, 3.0, 9.0],
    },
    [1.0, 1.0, 0.0],
  )
  assert got == pytest.approx(
    {
      "nll_nats_per_token": 6 / 4,
      "response_tokens": 2,
      "log_ratio_nats": 2,
    }
  )


def test_tokens():
  got = _means(
    "tokens",
    {
      "token_logps": [[-1.0, -2.0, 0.0], [-1.0, -1.0, -1.0]],
      "ref_token_logps": [[-2.0, -2.0, 0.0], [-2.0, -2.0, -1.0]],
      "old_token_logps": [[-4.0, -2.0, 0.0], [-1.0, -2.0, -1.0]],
      "mask": [[True, True, False], [True, True, True]],
      "repeats": [[False, True, True], [False, False, True]],
    },
    [1.0, 1.0],
  )
  assert got == pytest.approx(
    {
      "nll_nats_per_token": 6 / 5,
      "response_tokens": 2.5,
      "log_ratio_nats": (1 + 2) / 2,
      "old_log_ratio_nats": (3 + 1) / 2,
      "repeated_share": 2 / 5,
    }
  )


def test_rollouts():
  got = _means(
    "rollouts",
    {
      "token_logps": [[[-1.0, -2.0], [-4.0, 0.0]]],
      "ref_token_logps": [[[-2.0, -2.0], [-9.0, 0.0]]],
      "old_token_logps": [[[-4.0, -2.0], [-3.0, 0.0]]],
      "mask": [[[True, True], [True, False]]],
      "rewards": [[2.0, 6.0]],
      "valid": [[True, True]],
    },
    [1.0],
  )
  assert got == pytest.approx(
    {
      "logps_nats": -3.5,
      "reward_mean": 4,
      "old_log_ratio_nats": (3 - 1) / 2,
      "log_ratio_nats": (1 + 5) / 2,
      "responses_count": 2,
      "response_tokens": 1.5,
    }
  )


def _nll(*log_odds):
  """Mean of -log sigmoid."""
  return sum(math.log1p(math.exp(-z)) for z in log_odds) / len(log_odds)


def test_scores_of_lists():
  got = _means(
    "scores",
    {
      "scores": [[3.0, 1.0, 2.0], [4.0, 0.0, 9.0]],
      "ranks": [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]],
      "valid": [[True, True, True], [True, True, False]],
    },
    [1.0, 1.0],
  )
  assert got == pytest.approx(
    {
      "score_mean": 2,
      "score_accuracy": (1 + 1 + 0 + 1) / 4,
      "score_nll_nats": _nll(2, 1, -1, 4),
    }
  )


def test_a_known_probability_weighs_the_likelihoods_of_both_orders():
  pairs = {
    "scores": [[2.0, 1.0], [0.0, 3.0], [NAN, NAN]],
    "ranks": [[1.0, 2.0]] * 3,
    "valid": [[True, True]] * 3,
    "preference": [1.0, 0.25, NAN],
  }
  got = _means("scores", pairs, [1.0, 1.0, 0.0])
  nll = (_nll(1) + 0.25 * _nll(-3) + 0.75 * _nll(3)) / 2
  assert got["score_nll_nats"] == pytest.approx(nll)
  logits = {
    "logits": [1.0, -1.0],
    "swapped_logits": [0.0, 2.0],
    "preference": [1.0, 0.25],
  }
  got = _means("scores", logits, [1.0, 1.0])
  assert got["score_nll_nats"] == pytest.approx(nll)


def test_costs_rise_with_harm_and_their_signs_are_labels():
  got = _means(
    "scores",
    {
      "harmful_costs": [2.0, 1.0, NAN],
      "harmless_costs": [-1.0, 1.0, NAN],
      "harmful_unsafe": [True, False, True],
      "harmless_unsafe": [True, False, False],
    },
    [1.0, 1.0, 0.0],
  )
  assert got == pytest.approx(
    {
      "score_mean": 3 / 4,
      "score_accuracy": (1 + 0.5) / 2,
      "score_nll_nats": _nll(3, 0),
      "unsafe_accuracy": 1 / 4,
    }
  )


def test_a_labelled_response_is_right_by_its_sign():
  got = _means(
    "scores",
    {
      "response_scores": [2.0, -1.0, 0.0, NAN],
      "desirable": [True, True, False, True],
    },
    [1.0, 1.0, 1.0, 0.0],
  )
  assert got == pytest.approx(
    {
      "score_mean": 1 / 3,
      "score_accuracy": 1.5 / 3,
      "score_nll_nats": _nll(2, -1, 0),
    }
  )


def _named(scores, fields, weights):
  """Means of a batch with the objectives "a" and "b"."""
  batch = ScoreBatch(None, None, None, None, names=("a", "b"))
  batch = batch.replace(**{k: jnp.array(v) for k, v in fields.items()})
  arrays = {name: jnp.array(values) for name, values in scores.items()}
  return _means("scores", of_objectives(arrays, batch), weights)


def test_pairs_count_under_the_objectives_that_label_them():
  labels = {
    "objective": [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 1.0]],
    "objective_preferences": [[1.0, 0.5], [0.5, 0.25], [0.5, 1.0], [1.0, 1.0]],
  }
  # One score for all objectives; the last row fills the batch.
  one = {
    "chosen_scores": [2.0, 3.0, 1.0, NAN],
    "rejected_scores": [1.0, 1.0, 1.0, NAN],
  }
  got = _named(one, labels, [1.0, 1.0, 1.0, 0.0])
  # Of "a" the third pair is undecided; under "b" the second prefers the other.
  assert got == pytest.approx(
    {"score_accuracy/a": 1, "score_accuracy/b": (0 + 0.5) / 2}
  )
  several = {
    "chosen_objective_scores": [[2.0, 9.0], [9.0, -1.0], [1.0, 1.0], [NAN] * 2],
    "rejected_objective_scores":
      [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0] * 2],
  }  # fmt: skip
  got = _named(several, labels, [1.0, 1.0, 1.0, 0.0])
  soft = 0.25 * _nll(-2) + 0.75 * _nll(2)
  assert got == pytest.approx(
    {
      "score_accuracy/a": 1,
      "score_accuracy/b": 1,
      "score_accuracy": 1,
      "score_nll_nats": (_nll(1) + soft + _nll(0) + _nll(1)) / 4,
    }
  )


def test_errors_of_ratings_leave_missing_ones_out():
  labels = {
    "ratings": [[1.0, 0.0], [3.0, 2.0], [5.0, 5.0]],
    "rated": [[True, False], [True, True], [True, True]],
  }
  scores = {"objective_scores": [[0.0, 7.0], [1.0, 2.5], [NAN, NAN]]}
  got = _named(scores, labels, [1.0, 1.0, 0.0])
  assert got == pytest.approx(
    {
      "rating_error/a": (1 + 4) / 2,
      "rating_error/b": 0.25,
      "rating_error": (1 + 4 + 0.25) / 3,
    }
  )


def test_ratios_of_tokens_and_of_rollouts():
  """|u - 1| is .5 and .1 in one response, .25 in the other; clip at .2."""
  logs = lambda rows: jnp.log(jnp.array(rows))
  arrays = {
    "token_logps": logs([[0.6, 0.9], [0.75, 0.5], [0.9, 0.9]]),
    "old_token_logps": logs([[0.4, 1.0], [1.0, 0.1], [0.1, 0.1]]),
    "mask": jnp.array([[True, True], [True, False], [True, True]]),
  }
  want = {"first_ratio_gap": (0.5 + 0.25) / 2, "clipped_share": 2 / 3}
  of = lambda sums: {k: float(total / n) for k, (total, n) in sums.items()}
  weights = jnp.array([1.0, 1.0, 0.0])
  got = of(observe_ratios(arrays, weights, 0.2))
  assert got == pytest.approx(want, rel=1e-5)
  lists = {name: x[None] for name, x in arrays.items()}
  lists["valid"] = jnp.array([[True, True, False]])
  got = of(observe_ratios(lists, jnp.ones(1), 0.2))
  assert got == pytest.approx(want, rel=1e-5)


def test_losses_that_clip_tokens_ratios_say_their_range():
  clips = lambda loss: clips_of(losses.terms_of(loss, losses.entry_of(loss)))
  assert clips(losses.ppo(clip=0.3)) == [0.3]
  grpo = losses.resolve("grpo", clip=0.1)
  assert clips_of(losses.terms_of(*grpo)) == [0.1]
  assert not clips_of(losses.terms_of(*losses.resolve("reinforce")))
