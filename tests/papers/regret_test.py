"""The gridworlds' optima, regret, and CPL's policies are exact."""

import itertools

import numpy as np
import pytest

from experiments.papers import contrastive, regret_model
from experiments.papers.gridworld import (
  ALPHA,
  GRID,
  LENGTH,
  SLIPS,
  cells,
  gridworld,
  lottery,
  mean_return,
  optimum,
  segments,
  shaped,
  world,
)
from experiments.papers.segment_learners import (
  cloned_policy,
  cpl_loss,
  cpl_policy,
  draw_pairs,
  learnt_reward,
  softmax,
)
from jalign import losses

WORLDS = pytest.mark.parametrize("name", SLIPS)


@WORLDS
@pytest.mark.parametrize("alpha", [0.0, ALPHA])
@pytest.mark.parametrize("discount", [1.0, 0.7])
def test_values_solve_bellmans_equations(name, alpha, discount):
  mdp = world(name).mdp
  v, q, a = optimum(mdp, alpha, discount)
  for s, end in enumerate(mdp.ends):
    for act, t in itertools.product(range(4), range(len(v))):
      if mdp.transitions[s, act, t] > 0:
        assert end or cells()[t] in neighbours(*cells()[s])
    if end:
      assert v[s] == 0
      continue
    for act in range(4):
      backup = sum(
        p * (r + discount * v[t])
        for t, (p, r) in enumerate(
          zip(mdp.transitions[s, act], mdp.rewards[s, act])
        )
      )
      assert q[s, act] == pytest.approx(backup, abs=1e-12)
    best = alpha * np.log(np.exp(q[s] / alpha).sum()) if alpha else max(q[s])
    assert v[s] == pytest.approx(best, abs=1e-12)
    np.testing.assert_allclose(a[s], q[s] - v[s], atol=1e-12)


def neighbours(i: int, j: int) -> list[tuple[int, int]]:
  return [(i, j), (i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)]


@WORLDS
def test_transitions_are_probabilities_and_stay_off_walls(name):
  mdp = world(name).mdp
  np.testing.assert_allclose(mdp.transitions.sum(-1), 1, atol=1e-15)
  assert len(mdp.ends) == sum(kind != "#" for row in GRID for kind in row)
  assert not mdp.rewards[mdp.ends].any()


@WORLDS
def test_optimal_policies_return_their_values(name):
  w = world(name)
  live = ~w.mdp.ends
  greedy = np.eye(4)[w.hard.q.argmax(-1)]
  assert mean_return(w.mdp, greedy) == pytest.approx(w.hard.v[live].mean())
  assert w.gain(w.policy) == pytest.approx(w.soft.v[live].mean())
  # and any policy returns the solution of the linear equations
  policy = softmax(np.random.default_rng(0).normal(size=w.policy.shape))
  move = np.einsum("sa,sat->st", policy, w.mdp.transitions)[live][:, live]
  mean = (w.mdp.transitions * w.mdp.rewards).sum(-1)
  gain = (policy * (mean - ALPHA * np.log(policy))).sum(-1)[live]
  exact = np.linalg.solve(np.eye(len(gain)) - move, gain)
  value = mean_return(w.mdp, policy, ALPHA, steps=5000)
  assert value == pytest.approx(exact.mean())
  assert value < w.gain(w.policy)


def test_segments_are_all_there_is():
  certain, slippery = (world(name).ended for name in SLIPS)
  for segs in (certain, slippery):
    assert segs.law.sum() == pytest.approx(1)
    rows = np.concatenate([segs.states, segs.actions], 1)
    assert len(np.unique(rows, axis=0)) == len(rows)
  starts = (~world("certain").mdp.ends).sum()
  assert world("certain").whole.mask.all()
  assert len(segments(gridworld(0.0), 1).law) == 4 * starts
  # an end fills the rest of a segment
  mdp = world("certain").mdp
  after = mdp.ends[certain.states[:, :-1]]
  np.testing.assert_array_equal(certain.mask, ~after)
  assert certain.mask.shape[1] == LENGTH


@WORLDS
@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_advantages_telescope_but_for_luck(name, kind):
  w = world(name)
  v, _, a = getattr(w, kind)
  segs = w.ended
  total = segs.values(w.mdp.rewards).sum(1)
  form = v[segs.states[:, 0]] - total - v[segs.states[:, -1]]
  luck = form + segs.values(a).sum(1)
  assert segs.law @ luck == pytest.approx(0, abs=1e-12)
  largest = np.abs(luck).max()
  assert largest < 1e-12 if name == "certain" else largest > 1


@WORLDS
def test_shaping_keeps_advantages(name):
  w = world(name)
  phi = np.random.default_rng(3).normal(size=len(w.mdp.ends))
  for alpha in (0.0, ALPHA):
    moved = optimum(shaped(w.mdp, phi), alpha)
    np.testing.assert_allclose(
      moved.a, optimum(w.mdp, alpha).a, rtol=0, atol=1e-12
    )
  # so does the advantage as a reward, which is shaped by V
  for a in (w.soft.a, w.hard.a):
    rewards = np.where(w.mdp.ends[:, None, None], 0, a[..., None])
    rewards = rewards + np.zeros(w.mdp.rewards.shape)
    again = optimum(w.mdp._replace(rewards=rewards), ALPHA)
    live = ~w.mdp.ends
    np.testing.assert_allclose(again.a[live], w.soft.a[live], atol=1e-12)


@WORLDS
def test_the_optimum_is_where_cpls_gradient_vanishes(name):
  w = world(name)
  pairs = contrastive.labelled(w, "regret")
  logps = np.log(w.policy)
  assert np.abs(cpl_loss(logps, pairs)[1]).max() < 1e-15
  assert np.abs(cpl_loss(logps, pairs, 0.5)[1]).max() > 1e-3
  swapped = pairs._replace(wins=1 - pairs.wins)
  assert np.abs(cpl_loss(logps, swapped)[1]).max() > 1e-3
  by_return = contrastive.labelled(w, "partial return")
  assert np.abs(cpl_loss(logps, by_return)[1]).max() > 1e-3


def test_cpls_gradient_is_the_slope_in_logits():
  pairs = contrastive.labelled(world("certain"), "regret")
  rng = np.random.default_rng(0)
  logits, way = rng.normal(size=(2, *world("certain").policy.shape))
  at = lambda x: cpl_loss(np.log(softmax(logits + x * way)), pairs, 0.5)
  slope = (at(1e-5)[0] - at(-1e-5)[0]) / 2e-5
  assert slope == pytest.approx((at(0.0)[1] * way).sum(), rel=1e-7)


def test_cpl_finds_the_optimum_and_a_wrong_label_does_not():
  w = world("slippery")
  pairs = contrastive.labelled(w, "regret")
  start = contrastive.zeros(w)
  assert w.divergence(cpl_policy(start, pairs)) < 1e-9
  swapped = pairs._replace(wins=1 - pairs.wins)
  assert w.divergence(cpl_policy(start, swapped)) > 1


def test_a_reward_is_learnt_up_to_what_pairs_show():
  mdp = lottery(1.0, 2.0)
  segs = segments(mdp, 1)
  pairs = draw_pairs(segs, 100, np.random.default_rng(0))
  pairs = pairs.labelled(losses.partial_return_preference, mdp.rewards)
  returns = segs.values(learnt_reward(mdp, pairs)).sum(1)
  truth = segs.values(mdp.rewards).sum(1)
  np.testing.assert_allclose(returns - returns[0], truth - truth[0], atol=1e-5)


def test_cloning_counts_the_winners_steps():
  mdp = lottery(1.0, 2.0)
  segs = segments(mdp, 1)  # nothing, a win, a loss
  pairs = draw_pairs(segs, 3, np.random.default_rng(0))
  rows = np.array([[0, 1], [0, 2], [1, 2]])
  pairs = pairs._replace(
    states=segs.states[rows],
    actions=segs.actions[rows],
    mask=segs.mask[rows],
    wins=np.array([0.25, 0.5, 1.0]),
  )
  policy = cloned_policy(mdp, pairs)
  np.testing.assert_allclose(policy[0], [0.75 / 3, 2.25 / 3])


def test_answers_are_shares_of_counts():
  pairs = contrastive.labelled(world("certain"), "regret")
  answers = pairs.answered(5000, np.random.default_rng(0))
  assert answers.weight.sum() == pytest.approx(1)
  firsts = answers.wins * answers.weight * 5000
  np.testing.assert_allclose(firsts, np.round(firsts), atol=1e-9)
  gap = answers.weight @ answers.wins - pairs.weight @ pairs.wins
  assert abs(gap) < 0.03


@pytest.mark.parametrize(
  "part",
  [
    regret_model.form_claims,
    regret_model.model_claims,
    regret_model.identity_claims,
    contrastive.theory_claims,
  ],
  ids=lambda part: part.__name__,
)
def test_claims_hold(part):
  assert not [claim for claim in part() if not claim.holds]
