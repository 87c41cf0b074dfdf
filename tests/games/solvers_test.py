"""Solvers agree with theorems, closed forms and each other."""

import warnings

import jax
import numpy as np
import pytest

from jalign import games
from jalign.errors import UserError
from jalign.games import examples, solvers

GOLDEN = examples.golden()
P, MU = GOLDEN.preferences, GOLDEN.reference
RPS = examples.rock_paper_scissors(0.5)


def _softmax(*logits):
  p = np.exp(logits)
  return p / p.sum()


def _run(solver, game, *args, **settings):
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    course = games.run(solver, game.preferences, *args, **settings)
  return type(course)(*map(np.asarray, course))


@pytest.mark.parametrize(
  "tau, expected",
  [
    (1.0, (9.474e-6, 1.503e-7, 1.586e-9)),
    (0.1, (2.933e-3, 2.989e-5, 3.913e-7)),
    (0.01, (6.81, 1.239, 4.50e-2)),
  ],
)
def test_nash_md_keeps_its_theorem(tau, expected):
  schedule = solvers.decaying(tau)
  start = _softmax(3, -3, 0)
  course = _run(
    solvers.nash_md(), GOLDEN, MU, tau,
    steps=1000, step_size=schedule, start=start,
  )  # fmt: skip
  kl = course.kl
  np.testing.assert_allclose(kl[[10, 100, 1000]], expected, rtol=1e-3)
  step = np.array([float(schedule(t)) for t in range(1000)])
  assert (kl[1:] <= (1 - step * tau) * kl[:-1] + 2 * step**2 + 1e-12).all()
  count = np.arange(1, 1001)
  assert (kl[1:] <= 8 / (tau**2 * (count + 1))).all()


def test_a_constant_step_of_nash_md_is_biased_as_told():
  tau, step = 0.1, 2.0
  course = _run(solvers.nash_md(), GOLDEN, MU, tau, steps=600, step_size=step)
  mixed = course.policy ** (1 - step * tau) * MU ** (step * tau)
  nash = games.regularized_nash(P, MU, tau / (1 - step * tau))
  np.testing.assert_allclose(mixed / mixed.sum(), nash, atol=1e-13)
  assert course.kl[-1] > 1e-3


@pytest.mark.parametrize(
  "name, step, tau, expected",
  [
    ("nash_md", 1.0, 0.1, 0.8775),
    ("nash_md", 2.0, 0.01, 1.2805),
    ("online_mirror_descent", 1.0, 0.1, 0.893333),
    ("online_mirror_descent", 2.0, 0.1, 0.973333),
    ("extragradient", 1.0, 0.1, 0.734444),
    ("extragradient", 2.0, 0.1, 0.431111),
    ("nash_mirror_prox", 1.0, 0.1, 0.762926),
    ("nash_mirror_prox", 2.0, 0.1, 0.522977),
    ("nash_mirror_prox", 2.0, 0.01, 0.743552),
    ("multiplicative_weights", 0.1, 0.1, 1 + 0.01 / 12),
  ],
)
def test_ratios_on_rock_paper_scissors(name, step, tau, expected):
  solver = getattr(solvers, name)()
  ratio = solver.ratio(step, tau, 0.5 / 3**0.5)
  assert abs(ratio - expected) < 1e-4
  course = _run(
    solver, RPS, RPS.reference, tau,
    steps=8, step_size=step, start=_softmax(1e-3, -1e-3, 0),
  )  # fmt: skip
  # The eigenvectors rotate by 120 degrees here, so the norm falls evenly.
  assert abs(course.kl[8] / course.kl[5] / ratio**3 - 1) < 1e-4


@pytest.mark.parametrize("tau, count", [(0.5, 18), (0.1, 45), (0.02, 86)])
def test_mirror_prox_keeps_its_rate(tau, count):
  course = _run(
    solvers.nash_mirror_prox(), RPS, RPS.reference, tau,
    steps=count + 5, step_size=2.0, start=_softmax(2, -2, 0),
  )  # fmt: skip
  assert np.argmax(course.kl < 1e-12) == count
  k = np.arange(count + 6)
  assert (course.kl * (1 + 2 * tau) ** k <= course.kl[0] + 1e-12).all()


def test_without_a_pull_the_average_converges_and_the_last_orbits():
  game = (RPS.preferences, None, None)
  start = _softmax(0.1, -0.1, 0)
  weights = games.run(
    solvers.multiplicative_weights(), *game,
    steps=4000, step_size=lambda t: 0.1, start=start,
  )  # fmt: skip
  assert float(weights.kl[-1]) > 5 * float(weights.kl[0])
  gain = np.asarray(weights.average_exploitability)
  assert gain[4000] < 0.1 * gain[0]
  play = _run(
    solvers.fictitious_play(), RPS,
    steps=3000, step_size=lambda t: 1 / (t + 2), start=start,
  )  # fmt: skip
  assert play.exploitability[-1] < 0.02


def test_gradient_ascent_rests_where_its_opponent_says():
  tau = 0.1
  for mix_ref, exploitable in ((0.0, 0.0), (0.25, 2.82e-3), (1.0, 6.657e-2)):
    course = _run(
      solvers.policy_gradient(mix_ref), GOLDEN, MU, tau,
      steps=4000, step_size=1.0,
    )  # fmt: skip
    assert abs(course.exploitability[-1] - exploitable) < 6e-6


def test_sampled_gradients_are_unbiased():
  solver = solvers.sampled_policy_gradient(1, 0.4)
  exact = solvers.policy_gradient(0.4)
  with jax.enable_x64(True):
    game = solvers.Game(
      jax.numpy.asarray(P), jax.numpy.log(MU), jax.numpy.asarray(0.1)
    )
    x = jax.numpy.log(jax.numpy.asarray(_softmax(0.5, -0.2, 0.1)))
    # Differences to the first logit don't depend on the normaliser.
    free = lambda z: (z - x) - (z - x)[..., :1]
    keys = jax.random.split(jax.random.key(0), 40_000)
    moves = jax.vmap(lambda k: free(solver.step(x, game, 1.0, k)))(keys)
    expected = free(exact.step(x, game, 1.0, keys[0]))
  moves = np.asarray(moves)[:, 1:]
  error = moves.std(0) / len(moves) ** 0.5
  z = (moves.mean(0) - np.asarray(expected)[1:]) / error
  assert np.abs(z).max() < 3.5  # level 1e-3, two-sided


def test_the_moving_average_is_an_opponent_that_lags():
  ema = _run(solvers.nash_ema(0.9), GOLDEN, MU, 0.1, steps=4000, step_size=0.5)
  assert ema.kl[-1] < 1e-12  # at rest the average is the policy
  solver = solvers.nash_ema(0.9)
  game = solvers.Game(P, np.log(MU), np.float32(0.1))
  start = jax.nn.log_softmax(np.arange(len(MU), dtype=np.float32))
  now, average = solver.step(solver.init(start), game, 0.5, None)
  assert np.abs(now - start).max() > 0.01
  np.testing.assert_allclose(average, 0.9 * start + 0.1 * now, rtol=1e-5)


def test_a_step_out_of_range_warns_with_the_bound():
  # (1 - eta tau)^2 + eta^2 omega^2 < 1 below 2 tau / (tau^2 + omega^2)
  with pytest.warns(UserWarning, match=r"step_size 4 lies above 2\.143"):
    games.run(
      solvers.online_mirror_descent(), *RPS[:2], 0.1, steps=1, step_size=4.0
    )
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    games.run(
      solvers.online_mirror_descent(), *RPS[:2], 0.1, steps=1, step_size=2.0
    )


def test_rotation_rates():
  rates = games.rotation_rates(RPS.preferences, np.full(3, 1 / 3))
  np.testing.assert_allclose(sorted(rates), [0, 0.5 / 3**0.5, 0.5 / 3**0.5])
  elo = examples.elo().preferences
  assert games.rotation_rates(elo, games.nash(elo)).max() < 1e-12


def test_bad_input():
  with pytest.raises(UserError, match="come together"):
    games.run(solvers.nash_md(), P, MU, steps=1, step_size=1.0)
  with pytest.raises(UserError, match="margins"):
    examples.margins_cycle(0.1, 0.6, 0.2)
  with pytest.raises(UserError, match="epsilon"):
    examples.rater_types(0.5)
  with pytest.raises(UserError, match="random_game"):
    examples.random_game(0)
