"""Properties of losses on preferences between segments."""

import functools
import json
import math

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import losses
from tests.losses.identities_test import close, few, logp, value

step = st.floats(-5, -0.01)
steps = st.lists(step, min_size=3, max_size=3)
FIRST, SECOND = [-1.0, -0.5, -0.2], [-0.8, -1.1, -0.4]


@pytest.fixture(autouse=True)
def _float64():
  with jax.enable_x64(True):
    yield


@functools.cache
def _compiled(loss):
  return jax.jit(lambda arrays, settings: loss(*arrays, **settings)[0])


def pair(loss, first, second, preference=1.0, mask=None, **settings):
  """Loss of two segments."""
  x = jnp.array([[first, second]])
  mask = jnp.ones(x.shape, bool) if mask is None else jnp.array([mask])
  return _compiled(loss)((x, jnp.array([preference]), mask), settings)


def cpl(*args, **settings):
  return pair(losses.cpl, *args, **settings)


def test_golden():
  close(cpl(FIRST, SECOND, discount=0.9), 0.721282, 1e-6)
  close(cpl(FIRST, SECOND), 0.721025, 1e-6)
  # advantages of each segment, from the loss without bias on the other
  for segment, a in ((FIRST, -0.1612), (SECOND, -0.2114)):
    loss = cpl(segment, FIRST, bias=0.0, discount=0.9)
    close(loss, math.log1p(math.exp(-a)))


def test_equals_the_authors_code(shared):
  golden = json.loads((shared / "golden" / "losses_peers.json").read_text())
  first, second = (
    jnp.array(golden["inputs"][k]) for k in ("policy_chosen", "policy_rejected")
  )
  x = jnp.stack([first, second], 1)[..., None]
  for bias in ("1.0", "0.5"):
    ours = losses.cpl(x, jnp.ones(4), jnp.ones(x.shape, bool), bias=float(bias))
    theirs = golden["losses"][f"cpl/logits/bias={bias}"]["values"]
    close(ours, theirs, 1e-11)
  ranked = losses.cpl_ranked(
    first[None, :, None],
    jnp.array([[3.0, 1, 4, 2]]),
    jnp.ones((1, 4), bool),
    jnp.ones((1, 4, 1), bool),
  )
  close(ranked, golden["losses"]["cpl/scores/bias=0.5"]["values"], 1e-11)


@few
@hypothesis.given(a=steps, b=steps, p=st.floats(0, 1))
def test_labels_and_sides(a, b, p):
  soft = cpl(a, b, p)
  close(soft, p * cpl(a, b, 1.0) + (1 - p) * cpl(a, b, 0.0))
  close(soft, cpl(b, a, 1 - p))
  close(cpl(a, a, p, bias=1.0), math.log(2))
  close(cpl(a, b), cpl(a[::-1], b[::-1]))
  # only the winner, in either branch
  alone = lambda x: math.log1p(math.exp(-0.1 * sum(x)))
  close(cpl(a, b, 1.0, bias=0.0), alone(a))
  close(cpl(a, b, 0.0, bias=0.0), alone(b))
  up, down = jax.grad(lambda x: cpl(x[0], x[1], 1.0))(jnp.array([a, b]))
  assert (up < 0).all() and (down > 0).all()
  close(-up, 2 * down)  # bias
  assert jax.grad(lambda p: cpl(a, b, p))(p) == 0


@few
@hypothesis.given(c=logp, r=logp, rc=logp, rr=logp, alpha=st.floats(0.01, 1))
def test_without_bias_it_is_dpo(c, r, rc, rr, alpha):
  dpo = value(losses.dpo, c, r, rc, rr, beta=alpha)
  x, ref = jnp.array([[[c], [r]]]), jnp.array([[[rc], [rr]]])
  mask, label = jnp.ones(x.shape, bool), jnp.ones(1)
  settings = {"alpha": alpha, "bias": 1.0}
  close(losses.cpl_kl(x, ref, label, mask, **settings), [dpo], 1e-8)
  close(losses.cpl(x - ref, label, mask, **settings), [dpo], 1e-8)


def test_a_bias_breaks_the_invariance_to_a_shift():
  shifted = [[x + 0.1 for x in segment] for segment in (FIRST, SECOND)]
  close(cpl(*shifted, bias=1.0), cpl(FIRST, SECOND, bias=1.0))
  assert cpl(*shifted) < cpl(FIRST, SECOND) - 1e-4


@few
@hypothesis.given(a=steps, b=steps, discount=st.floats(0.3, 1))
def test_padding_on_either_side_or_between_changes_nothing(a, b, discount):
  expected = cpl(a, b, discount=discount)
  junk = [7.0, -9.0]
  padded = {"mask": [[False] * 2 + [True] * 3, [True] * 3 + [False] * 2]}
  close(cpl(junk + a, b + junk, discount=discount, **padded), expected)
  gaps = [True, False, True, False, True]
  spread = lambda x: [x[0], 7.0, x[1], -9.0, x[2]]
  loss = cpl(spread(a), spread(b), mask=[gaps, gaps], discount=discount)
  close(loss, expected)


@few
@hypothesis.given(a=steps, b=steps, c=steps)
def test_ranked(a, b, c):
  x = jnp.array([[a, b, c]])
  mask, valid = jnp.ones(x.shape, bool), jnp.ones((1, 3), bool)
  ranked = lambda scores, valid=valid: losses.cpl_ranked(
    x, jnp.array([scores]), valid, mask
  )[0]
  pairs = [cpl(b, a), cpl(c, a), cpl(b, c)]
  close(ranked([1.0, 3.0, 2.0]), sum(pairs) / 3)
  close(ranked([1.0, 3.0, 1.0]), (pairs[0] + pairs[2]) / 2)  # a tie is no pair
  two = jnp.array([[True, True, False]])
  close(ranked([1.0, 3.0, 9.0], two), pairs[0])
  close(ranked([1.0, 1.0, 1.0]), 0)
  close(ranked([1.0, 3.0, 9.0], ~valid), 0)


def test_regret():
  regret = lambda first, second: pair(
    losses.regret_preference, [-first], [-second]
  )
  close(math.exp(-regret(0.3, 0.8)), 0.622459, 1e-6)
  close(regret(0.3, 0.3), math.log(2))
  assert regret(0.0, 1.0) < regret(1.0, 0.0)


@few
@hypothesis.given(a=steps, b=steps, start=step, end=step, p=st.floats(0, 1))
def test_regret_is_partial_return_between_equal_ends(a, b, start, end, p):
  mask = jnp.ones((1, 2, 3), bool)
  regrets = losses.deterministic_regret(
    jnp.array([[a, b]]), jnp.array([[start] * 2]), jnp.array([[end] * 2]), mask
  )
  first, second = (-float(x) for x in regrets[0])
  by_regret = pair(losses.regret_preference, [first], [second], p)
  by_return = pair(losses.partial_return_preference, a, b, p)
  close(by_regret, by_return, 1e-8)


def test_deterministic_regret():
  regret = losses.deterministic_regret
  rewards = jnp.array([1.0, 2.0, 100.0])
  mask = jnp.array([True, True, False])
  close(regret(rewards, jnp.array(5.0), jnp.array(2.0), mask), 0)  # optimal
  close(regret(rewards, jnp.array(6.0), jnp.array(2.0), mask), 1)


def test_a_segment_without_steps():
  none = np.zeros((2, 3), bool).tolist()
  close(cpl(FIRST, SECOND, mask=none), math.log(2))
  gradient = jax.grad(lambda x: cpl(x, SECOND, mask=none))(jnp.array(FIRST))
  close(gradient, 0)
