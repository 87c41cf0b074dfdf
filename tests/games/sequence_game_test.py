"""Token games: enumerated policies, mixtures, and tables as models."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign.decode import MixtureParams, generate, geometric
from jalign.errors import UserError
from jalign.games import (
  exploitability,
  kl,
  regularized_nash,
  run,
  sequence_game,
  solvers,
  tables,
  win_rates,
)
from jalign.logprobs import token_logprobs

GAME = sequence_game.cyclic_game()
V, L = 3, 3
ROWS = tables.sequences(V, L)
PREFERENCES = np.asarray(GAME.preferences())
REFERENCE = np.exp(np.asarray(GAME.log_reference))


def _index(text):
  return int(text, V)


def _policy(seed=0, vocab_size=V, length=L):
  table = np.random.default_rng(seed).normal(
    size=(tables.prefixes(vocab_size, length), vocab_size)
  )
  with jax.enable_x64(True):
    return np.asarray(tables.log_probs(jnp.asarray(table), length))


def test_the_preferences_are_those_of_the_definition():
  for i, a in enumerate(itertools.product(range(3), repeat=3)):
    for j, b in enumerate(itertools.product(range(3), repeat=3)):
      c, d = ([y.count(k) for k in range(3)] for y in (a, b))
      cycle = sum(
        c[k] * d[(k + 1) % 3] - c[(k + 1) % 3] * d[k] for k in range(3)
      )
      changes = [(y[0] != y[1]) + (y[1] != y[2]) for y in (a, b)]
      logit = 0.5 * cycle + 0.3 * (changes[0] - changes[1])
      assert PREFERENCES[i, j] == pytest.approx(
        1 / (1 + np.exp(-logit)), abs=1e-15
      )


def test_the_reference_is_that_of_the_definition():
  for y, got in zip(itertools.product(range(3), repeat=3), REFERENCE):
    p = 1.0
    for t, token in enumerate(y):
      weights = [
        np.exp(0.5 * (k == 0) + 1.0 * (t > 0 and k == y[t - 1]))
        for k in range(3)
      ]
      p *= weights[token] / sum(weights)
    assert got == pytest.approx(p, rel=1e-14)
  assert REFERENCE[_index("000")] == pytest.approx(0.2160297736, abs=1e-10)
  assert REFERENCE[_index("012")] == pytest.approx(0.0129893229, abs=1e-10)


GOLDEN = {
  0.1: (
    {"000": 0.088424, "222": 0.073343, "200": 0.053628},
    0.14553244,
    0.03324435,
    {0.125: 2.17e-5, 0.5: 1.077e-4},
  ),
  0.02: (
    {"120": 0.089694, "210": 0.089694},
    1.34242346,
    0.08332757,
    {0.125: 3.32e-4, 0.5: 3.56e-3},
  ),
}


@pytest.mark.parametrize("tau", GOLDEN)
def test_the_equilibrium_has_the_known_numbers(tau):
  top, divergence, exploitable, gaps = GOLDEN[tau]
  nash = regularized_nash(PREFERENCES, REFERENCE, tau)
  best = np.argsort(-np.asarray(nash), kind="stable")[: len(top)]
  assert {"".join(map(str, ROWS[i])) for i in best} == set(top)
  for text, p in top.items():
    assert nash[_index(text)] == pytest.approx(p, abs=1e-6)
  assert float(kl(nash, REFERENCE)) == pytest.approx(divergence, abs=1e-8)
  game = (PREFERENCES, REFERENCE, tau)
  assert float(exploitability(REFERENCE, *game)) == pytest.approx(
    exploitable, abs=1e-8
  )
  for mix_ref, gap in gaps.items():
    parts = np.log(nash), GAME.log_reference, mix_ref
    whole = np.exp(tables.sequence_mixture(*parts))
    token = np.exp(tables.token_mixture(*parts, V))
    assert token.sum() == pytest.approx(1, abs=1e-14)
    assert float(kl(whole, token)) == pytest.approx(gap, rel=2e-3)


def test_mixtures_agree_where_tokens_are_independent():
  """They don't agree for other policies."""
  rng = np.random.default_rng(0)
  steps = np.log(rng.dirichlet(np.ones(V), (2, L)))
  first, second = (
    sum(steps[m, t][ROWS[:, t]] for t in range(L)) for m in range(2)
  )
  whole = tables.sequence_mixture(first, second, 0.3)
  token = tables.token_mixture(first, second, 0.3, V)
  np.testing.assert_allclose(whole, token, atol=1e-14)
  other = _policy(1)
  whole = tables.sequence_mixture(other, second, 0.3)
  token = tables.token_mixture(other, second, 0.3, V)
  assert np.abs(whole - token).max() > 0.01


def test_any_distribution_is_a_table():
  log_policy = np.log(np.random.default_rng(0).dirichlet(np.ones(V**L)))
  with jax.enable_x64(True):
    table = tables.table_of(log_policy, V)
    back = tables.log_probs(table, L)
    np.testing.assert_allclose(back, log_policy, atol=1e-13)


def test_solvers_take_the_known_number_of_steps():
  for tau, steps in ((0.1, 57), (0.02, 290)):
    path = run(
      solvers.nash_mirror_prox(),
      PREFERENCES,
      REFERENCE,
      tau,
      step_size=2.0,
      steps=steps,
    )
    before, after = np.asarray(path.kl)[-2:]
    assert after < 1e-10 <= before
  path = run(
    solvers.nash_md(),
    PREFERENCES,
    REFERENCE,
    0.1,
    step_size=solvers.decaying(0.1),
    steps=1000,
  )
  got = [float(path.kl[t]) for t in (10, 100, 1000)]
  np.testing.assert_allclose(got, [7.376e-4, 1.715e-5, 2.155e-7], rtol=5e-4)


def test_win_rates_without_the_matrix():
  log_policy = _policy()
  want = win_rates(PREFERENCES, np.exp(log_policy))
  for rows in (4, 27, 1024):
    got = sequence_game.win_rates(GAME, log_policy, rows=rows)
    np.testing.assert_allclose(got, want, atol=1e-14)


def test_the_matrix_of_a_large_game_is_refused():
  large = GAME._replace(length=9)
  with pytest.raises(UserError, match=r"19,683 responses.*3.1 GB"):
    large.preferences()


def test_texts_are_judged_by_the_game():
  texts = [sequence_game.decode(row) for row in ROWS]
  got = GAME.annotate([""] * 27, texts, texts[::-1])
  np.testing.assert_allclose(got, np.diag(PREFERENCES[:, ::-1]), atol=1e-15)


# ------------------------------------------------------------ as a model

MODEL = tables.tabular(V, L)
PARAMS = MODEL.init(jax.random.key(0))
REF_PARAMS = MODEL.init(jax.random.key(1))


def _generate(policy, params, count=64, new=L):
  return generate(
    policy,
    params,
    jnp.zeros((count, 1), jnp.int32),
    jnp.ones(count, jnp.int32),
    jax.random.split(jax.random.key(2), count),
    max_new_tokens=new,
    stop_ids=(),
  )


def _log_probs(params):
  with jax.enable_x64(True):
    table = jnp.asarray(np.asarray(params["logits"]), jnp.float64)
    return np.asarray(tables.log_probs(table, L))


def _indices(rollout):
  return np.asarray(rollout.sequences.tokens)[:, 1:] @ [9, 3, 1]


def test_scoring_decoding_and_enumeration_agree():
  rollout = _generate(MODEL, PARAMS)
  tokens = rollout.sequences.tokens
  scored = token_logprobs(
    MODEL.forward(PARAMS, tokens)[:, :-1], MODEL.head(PARAMS), tokens[:, 1:]
  )
  exact = _log_probs(PARAMS)[_indices(rollout)]
  np.testing.assert_allclose(scored.sum(-1), exact, atol=2e-6)
  np.testing.assert_allclose(rollout.logps.sum(-1), exact, atol=2e-6)
  assert rollout.sequences.mask[:, 1:].all()
  assert len(set(_indices(rollout))) > 10


def test_the_sampled_mixture_is_the_token_level_one():
  share = 0.5
  rollout = _generate(
    geometric(MODEL, MODEL), MixtureParams(PARAMS, REF_PARAMS, share), 4096
  )
  parts = _log_probs(PARAMS), _log_probs(REF_PARAMS), share
  at = _indices(rollout)
  token = np.asarray(tables.token_mixture(*parts, V))
  np.testing.assert_allclose(rollout.logps.sum(-1), token[at], atol=3e-6)
  whole = np.asarray(tables.sequence_mixture(*parts))
  assert np.abs(whole - token).max() > 0.05
  expected = 4096 * np.exp(token)
  squares = ((np.bincount(at, minlength=27) - expected) ** 2 / expected).sum()
  assert squares < 54.05  # chi-square of 26 degrees at 0.1 %


def test_rows_of_a_mixture_have_their_own_weight():
  shares = jnp.tile(jnp.float32([0, 0.5, 1]), 20)
  mixed = _generate(
    geometric(MODEL, MODEL), MixtureParams(PARAMS, REF_PARAMS, shares), 60
  )
  for i, share in enumerate((0.0, 0.5, 1.0)):
    alone = _generate(
      geometric(MODEL, MODEL), MixtureParams(PARAMS, REF_PARAMS, share), 60
    )
    for a, b in zip(jax.tree.leaves(mixed), jax.tree.leaves(alone)):
      axis = a.ndim - 2 if a.ndim > 1 else 0
      np.testing.assert_array_equal(
        jnp.take(a, jnp.arange(i, 60, 3), axis),
        jnp.take(b, jnp.arange(i, 60, 3), axis),
      )


def test_what_the_table_has_no_room_for_is_refused():
  with pytest.raises(UserError, match="rows have 5 tokens"):
    _generate(MODEL, PARAMS, new=L + 1)
  with pytest.raises(UserError, match="packed"):
    MODEL.forward(PARAMS, jnp.zeros((1, 4), int), None, jnp.zeros((1, 4), int))
