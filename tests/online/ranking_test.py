"""Which of K responses become a batch, and with which labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign.online import ALGORITHMS, Judged, every_pair
from jalign.online.rows import games, iterated, ranking
from jalign.types import Rollout, Sequences

P, T = 5, 4


def _judged(table, rewards=None, **more):
  """Judgements on P * K made-up rows, whose first token is their number."""
  size = table.shape[1]
  rows = P * size
  tokens = jnp.arange(rows, dtype=jnp.int32)[:, None] + jnp.zeros((1, T), int)
  mask = jnp.ones((rows, T), bool).at[:, 0].set(False)
  sequences = Sequences(tokens, mask, jnp.full(rows, T))
  logps = -jnp.arange(rows * T, dtype=jnp.float32).reshape(rows, T)
  rollout = Rollout(
    sequences, jnp.ones(rows, int), logps, logps[None], jnp.ones(rows, bool)
  )
  answers = [table[:, i, j] for i, j in every_pair(size)]
  return Judged(
    rollout,
    rewards,
    None,
    np.stack(answers, 1).astype(np.float32),
    np.arange(1.0, P + 1, dtype=np.float32),
    (),
    jax.random.key(0),
    **more,
  )


def _table(size, seed=0):
  """[P, K, K] preferences of no transitive order."""
  upper = np.triu(np.random.default_rng(seed).random((P, size, size)), 1)
  lower = np.tril(np.ones((size, size)), -1) - np.swapaxes(upper, 1, 2)
  return (
    upper
    + np.where(np.tri(size, k=-1, dtype=bool), lower, 0)
    + np.eye(size) / 2
  )


def _rows(sequences):
  """Number of the sampled row in each row."""
  return np.asarray(sequences.tokens)[:, 0]


def test_best_and_worst_have_the_extreme_win_rates():
  size = 4
  table = _table(size)
  judged = _judged(table)
  np.testing.assert_allclose(ranking.preferences(judged), table, atol=1e-7)
  places, won = ranking.best_and_worst(judged)
  for p in range(P):
    wins = [sum(table[p, i]) / size for i in range(size)]
    best, worst = int(np.argmax(wins)), int(np.argmin(wins))
    assert tuple(places[p]) == (best, worst)
    assert won[p] == pytest.approx(table[p, best, worst], abs=1e-6)
  batch = iterated.best_against_worst(judged)
  want = np.arange(P)[:, None] * size + places
  np.testing.assert_array_equal(_rows(batch.sequences), want.reshape(-1))
  np.testing.assert_allclose(batch.preference, won, rtol=1e-6)
  np.testing.assert_array_equal(batch.weights, judged.weights)
  hard = iterated.best_against_worst(judged, smoothing=0.1)
  np.testing.assert_allclose(hard.preference, 0.9)


def test_rewards_decide_between_equal_win_rates():
  """Rewards order responses as their preferences do, also where those are 1."""
  rewards = np.random.default_rng(1).permuted([[0.0, 40, 90, 150]] * P, axis=1)
  gaps = rewards[:, :, None] - rewards[:, None]
  table = 1 / (1 + np.exp(-gaps))
  for given in (rewards, None):
    places, _ = ranking.best_and_worst(_judged(table, given))
    np.testing.assert_array_equal(places[:, 0], rewards.argmax(1))
    np.testing.assert_array_equal(places[:, 1], rewards.argmin(1))
  ties = np.full((P, 4, 4), 0.5)
  places, won = ranking.best_and_worst(_judged(ties, rewards))
  np.testing.assert_array_equal(places[:, 0], rewards.argmax(1))
  np.testing.assert_array_equal(places[:, 1], rewards.argmin(1))
  np.testing.assert_array_equal(won, 0.5)
  # With nothing to tell them apart they are still two responses.
  places, _ = ranking.best_and_worst(_judged(ties))
  assert (places[:, 0] != places[:, 1]).all()


def test_inpo_records_the_iterates_log_probs_of_its_pair():
  table = _table(3)
  judged = _judged(table)
  batch = iterated.pairs_of_the_iterate(judged, tournament=True)
  rows = _rows(batch.sequences)
  summed = np.asarray(judged.old_token_logps).sum(-1)
  np.testing.assert_allclose(batch.old_logps, summed[rows])
  assert (rows // 3 == np.repeat(np.arange(P), 2)).all()


def test_sppo_gives_every_response_its_win_rate_over_all():
  size = 5
  table = _table(size)
  judged = _judged(table)
  batch = iterated.responses_with_win_rates(judged)
  np.testing.assert_array_equal(_rows(batch.sequences), np.arange(P * size))
  wins = [table[p, i].sum() / size for p in range(P) for i in range(size)]
  np.testing.assert_allclose(batch.preference, wins, rtol=1e-5)
  np.testing.assert_array_equal(batch.weights, np.repeat(judged.weights, size))
  two = iterated.responses_with_win_rates(judged, extremes=True)
  by_prompt = np.reshape(wins, (P, size))
  want = np.stack([by_prompt.max(1), by_prompt.min(1)], 1).reshape(-1)
  np.testing.assert_allclose(two.preference, want, rtol=1e-5)
  np.testing.assert_allclose(
    np.asarray(wins)[_rows(two.sequences)], want, rtol=1e-5
  )


def test_the_greedy_response_stands_beside_its_pair():
  table = _table(3)
  batch = iterated.ranked_beside_greedy(_judged(table))
  np.testing.assert_array_equal(_rows(batch.beside), np.arange(P) * 3 + 2)
  wins = table.sum(-1)
  want = np.stack([wins.argmax(1), wins.argmin(1)], 1)
  want = (want + 3 * np.arange(P)[:, None]).reshape(-1)
  np.testing.assert_array_equal(_rows(batch.sequences), want)


def test_self_play_uses_both_sides_of_a_comparison():
  table = _table(2)
  judged = _judged(table)
  batch = games.both_responses(judged)
  np.testing.assert_array_equal(_rows(batch.sequences), np.arange(2 * P))
  want = np.stack([table[:, 0, 1], table[:, 1, 0]], 1).reshape(-1)
  np.testing.assert_allclose(batch.preference, want, rtol=1e-6)
  np.testing.assert_array_equal(batch.weights, np.repeat(judged.weights, 2))


def test_mirror_prox_has_the_anchors_log_probs_of_its_responses():
  anchor = jnp.arange(2.0 * P * (T - 1)).reshape(2 * P, T - 1)
  judged = _judged(_table(2), logps={"anchor": anchor})
  batch = games.near_the_anchor(judged)
  np.testing.assert_array_equal(_rows(batch.sequences), np.arange(0, 2 * P, 2))
  np.testing.assert_array_equal(batch.anchor_token_logps, anchor[0::2])


def test_a_pair_of_two_models_keeps_its_order():
  table = _table(2)
  batch = iterated.in_drawn_order(_judged(table))
  np.testing.assert_array_equal(_rows(batch.sequences), np.arange(2 * P))
  np.testing.assert_allclose(batch.preference, table[:, 0, 1], rtol=1e-6)
  names = [draw.name for draw in ALGORITHMS["xpo"].draws]
  assert names == ["policy", "reference"]
