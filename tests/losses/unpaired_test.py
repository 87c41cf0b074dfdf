"""Identities of losses on labelled single responses."""

import functools
import math

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jalign import losses
from jalign.errors import UserError
from jalign.sharding import make_mesh
from tests.losses.identities_test import PAIR, beta, close, few, logp, value

ratio = st.floats(-30, 30)


@pytest.fixture(autouse=True)
def _float64():
  with jax.enable_x64(True):
    yield


def _kto(ratios, desirable, mismatched, valid=None, **settings):
  """KTO's loss on log-ratios to a reference of log-prob 0."""
  ratios, mismatched = jnp.asarray(ratios), jnp.asarray(mismatched)
  zero = jnp.zeros(ratios.shape)
  valid = jnp.ones(ratios.shape, bool) if valid is None else valid
  labels = jnp.asarray(desirable)
  return losses.kto(ratios, zero, labels, mismatched, zero, valid, **settings)


def test_golden_numbers():
  close(_kto([1.0], [True], [0.3]), 0.482507, 1e-6)
  close(_kto([-0.5], [False], [0.3]), 0.480011, 1e-6)
  batch = _kto([1.0, 0.5, -7.0], [True, False, True], [0.2, -0.1, 0.5])
  close(batch.mean(), 0.553372, 1e-6)


@few
@hypothesis.given(r=ratio, other=ratio, beta=beta)
def test_kto_by_hand(r, other, beta):
  z0 = max(0.0, (other + 1) / 2)
  weights = {"desirable_weight": 1.3, "undesirable_weight": 0.7}
  kto = functools.partial(_kto, mismatched=[other, 1.0], beta=beta, **weights)
  labels = [True, False]
  close(kto([z0, z0], labels), [0.65, 0.35])
  slope = lambda r: jax.grad(lambda x: kto(x, labels).sum())(jnp.array([r, r]))
  good, bad = slope(r)
  assert good <= 0 <= bad
  assert -good <= 1.3 * beta / 4 + 1e-12 and bad <= 0.7 * beta / 4 + 1e-12
  close(slope(z0), [-1.3 * beta / 4, 0.7 * beta / 4])
  even = functools.partial(_kto, mismatched=[other, 1.0], beta=beta)
  undesirable = even([r, r], [False, False])
  close(undesirable, even([2 * z0 - r] * 2, [True, True]), 1e-8)


def test_the_reference_point():
  at = lambda *ratios: losses.kto_reference_point(
    jnp.array(ratios), jnp.zeros(len(ratios)), jnp.ones(len(ratios), bool)
  )
  close(at(0.2, -0.1, 0.5), 0.2)
  close(at(-4.0, 1.0), 0)  # a KL isn't negative
  close(at(), 0)
  total = lambda x: losses.kto_reference_point(x, 0 * x, x < 9)
  assert total(jnp.array([1.0, 2.0, np.nan])) == 1.5
  close(jax.grad(total)(jnp.array([1.0, 2.0])), [0, 0])


def test_kto_holds_its_reference_point():
  arrays = [jnp.array([x]) for x in (-3.0, -2.0, -4.0, -6.0)]
  yes = jnp.array([True])
  loss = lambda a, b, c, d: losses.kto(a, b, yes, c, d, yes).sum()
  gradients = jax.grad(loss, (0, 1, 2, 3))(*arrays)
  assert gradients[0] < 0
  close(gradients[1:], np.zeros((3, 1)))


@pytest.mark.parametrize("filler", [1e4, np.nan])
def test_rows_that_fill_the_batch_have_no_part(filler):
  ratios, others = [1.0, -2.0, 0.5], [0.3, 0.9, -0.1]
  labels, where = [True, False, True], np.array([1, 2, 4])
  expected = _kto(ratios, labels, others)
  full = lambda x, fill: jnp.full(6, fill).at[where].set(jnp.asarray(x))
  valid = full([True] * 3, False)

  def padded(x):
    return _kto(x, full(labels, True), full(others, filler), valid)

  close(padded(full(ratios, filler))[where], expected)
  close(padded(full(ratios, filler))[~valid], 0)
  slope = jax.grad(lambda x: padded(x).sum())(full(ratios, filler))
  assert np.isfinite(slope).all() and (slope[~valid] == 0).all()
  nothing = jnp.zeros(6, bool)
  none = _kto(full(ratios, filler), valid, full(others, filler), nothing)
  close(none, 0)


def test_the_reference_point_is_that_of_all_devices():
  rng = np.random.default_rng(0)
  real = [jnp.asarray(x) for x in rng.uniform(-9, 0, (4, 32))]
  labels, valid = jnp.arange(32) % 3 > 0, jnp.arange(32) % 5 > 0
  arrays = [real[0], real[1], labels, real[2], real[3], valid]
  expected = losses.kto(*arrays)
  mesh = make_mesh()
  rows = NamedSharding(mesh, PartitionSpec("data"))
  sharded = jax.jit(losses.kto)(*jax.device_put(arrays, rows))
  assert mesh.size == 8
  close(sharded, expected, 1e-12)
  apart = [losses.kto(*(x[i : i + 4] for x in arrays)) for i in range(0, 32, 4)]
  assert abs(jnp.concatenate(apart) - expected).max() > 1e-3


@few
@hypothesis.given(
  c=logp, r=logp, rc=logp, rr=logp, beta=beta, shift=st.floats(-2, 2)
)
def test_a_pair_is_two_responses(c, r, rc, rr, beta, shift):
  pair = [jnp.array(x) for x in ([c, r], [rc, rr])]
  labels = jnp.array([True, False])
  bco = losses.bco_unpaired(*pair, labels, beta=beta, shift=shift)
  whole = value(losses.bco, c, r, rc, rr, beta=beta, shift=shift)
  close(bco.sum(), whole)
  apo = losses.apo_zero_unpaired(*pair, labels, beta=beta)
  close(apo.sum(), value(losses.apo_zero, c, r, rc, rr, beta=beta))
  zero = jnp.zeros(2)
  kto = losses.kto(*pair, labels, zero, zero, jnp.ones(2, bool), beta=beta)
  close(apo, kto)
  even = losses.bco_unpaired_matched(
    *pair, labels, jnp.full(2, 0.5), beta=beta, shift=shift
  )
  close(even, bco)
  update = functools.partial(losses.bco_shift_update, beta=beta, decay=0.4)
  single = losses.bco_unpaired_shift_update(
    shift, *pair, labels, jnp.ones(2, bool), beta=beta, decay=0.4
  )
  as_pairs = update(shift, *(jnp.array([x]) for x in (c, r, rc, rr)))
  close(single, as_pairs)


@pytest.mark.parametrize(
  "loss", [losses.bco_unpaired, losses.apo_zero_unpaired]
)
def test_labels_point_the_slope(loss):
  total = lambda x: loss(x, jnp.array([-3.0, -3]), jnp.array([True, False]))
  good, bad = jax.grad(lambda x: total(x).sum())(jnp.array([-4.0, -4]))
  assert good < 0 < bad


def test_bco_on_the_pair():
  both = jnp.array([PAIR["chosen_logps"], PAIR["rejected_logps"]])
  refs = jnp.array([PAIR["ref_chosen_logps"], PAIR["ref_rejected_logps"]])
  labels = jnp.array([True, False])
  close(
    losses.bco_unpaired(both, refs, labels, shift=0.02).sum(), 1.312707, 1e-6
  )
  shift = jax.grad(
    lambda s: losses.bco_unpaired(both, refs, labels, shift=s).sum()
  )
  assert shift(0.3) == 0


def test_kinds_weigh_the_same_in_the_shift():
  args = (
    jnp.array([1.0, 2.0, 6.0, -4.0, np.nan]),
    jnp.zeros(5),
    jnp.array([True, True, True, False, True]),
  )
  update = functools.partial(
    losses.bco_unpaired_shift_update, beta=0.1, decay=0.0
  )
  valid = jnp.arange(5) < 4
  close(update(0.7, *args, valid), 0.1 * (3 - 4) / 2)
  close(update(0.7, *args, jnp.arange(5) < 3), 0.7)  # no undesirable one


def test_matching_weights():
  rates = jnp.array([0.0, 0.2, 0.5, 0.75, 0.95, 1.0])
  weights = losses.matching_weights(jnp.zeros(6, bool), rates)
  close(weights, [0.5, 0.5, 1, 3, 10, 10])
  close(losses.matching_weights(jnp.ones(6, bool), rates), np.ones(6))
  narrow = losses.matching_weights(
    jnp.zeros(6, bool), rates, lowest=0.8, highest=2.0
  )
  close(narrow, [0.8, 0.8, 1, 2, 2, 2])
  gradient = jax.grad(
    lambda p: losses.matching_weights(jnp.zeros(6, bool), p).sum()
  )(rates)
  close(gradient, np.zeros(6))
  with pytest.raises(UserError, match=r"highest must be in \[2, inf\)"):
    losses.matching_weights(rates > 2, rates, lowest=2.0, highest=1.0)
  arrays = (jnp.full(6, -3.0), jnp.full(6, -2.0), jnp.zeros(6, bool))
  plain = losses.bco_unpaired(*arrays, shift=0.1)
  matched = losses.bco_unpaired_matched(*arrays, rates, shift=0.1)
  close(matched, weights * plain)
  close(plain, math.log1p(math.exp(-0.1 - 0.1)))
