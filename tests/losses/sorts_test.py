"""Losses that sort a batch: ranks, padding, ties, devices."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jalign import losses
from jalign.sharding import make_mesh
from tests.losses.identities_test import close, value

BATCH = [
  np.array([-10.0, -9, -26]),
  np.array([-12, -8.5, -25]),
  np.array([-11, -9.5, -19]),
  np.array([-11.5, -9, -23]),
]
BOTH = pytest.mark.parametrize("loss", [losses.aot_paired, losses.aot_unpaired])


@pytest.fixture(autouse=True)
def _float64():
  with jax.enable_x64(True):
    yield


def _all(arrays):
  return jnp.ones(arrays[0].shape, bool)


def _draw(rows, seed=0):
  rng = np.random.default_rng(seed)
  return [jnp.asarray(rng.uniform(-25, -5, rows)) for _ in range(4)]


@functools.partial(jax.jit, static_argnums=0)
def _slopes(loss, arrays, valid):
  total = lambda c, r: loss(c, r, *arrays[2:], valid).sum()
  return jax.grad(total, (0, 1))(*arrays[:2])


def test_golden_batch():
  paired = losses.aot_paired(*BATCH, _all(BATCH))
  close(paired.mean(), 0.753665, 1e-6)
  # margins 2, -0.5, -1 against sorted -0.5, 0.5, 4; in the examples' order
  gaps = np.array([2 - 4, -0.5 - 0.5, -1 + 0.5])
  close(paired, np.log1p(np.exp(-0.1 * gaps)))
  unpaired = losses.aot_unpaired(*BATCH, _all(BATCH))
  close(unpaired.mean(), 0.762310, 1e-6)
  gaps = np.array([0.5, 1, -5])  # 1, 0.5, -7 over sorted -2, -0.5, 0.5
  close(unpaired, np.log1p(np.exp(-0.1 * gaps)))


@BOTH
def test_a_batch_of_one_is_dpo(loss):
  pair = (-10.0, -12.0, -11.0, -11.5)
  on_all = lambda *x, **kw: loss(*x, _all(x), **kw)
  close(value(on_all, *pair), value(losses.dpo, *pair))
  smooth = {"beta": 0.7, "label_smoothing": 0.2}
  close(value(on_all, *pair, **smooth), value(losses.dpo, *pair, **smooth))


@BOTH
def test_order_of_examples_is_no_matter(loss):
  arrays, order = _draw(9), np.random.default_rng(1).permutation(9)
  expected = loss(*arrays, _all(arrays))
  close(loss(*(x[order] for x in arrays), _all(arrays)), expected[order])


def test_where_ranks_agree_it_is_dpo():
  # the same permutation sorts both
  c, r, rc, _ = _draw(7)
  rr = rc - (2 * (c - r) + 1)  # the reference's margin grows with the policy's
  close(losses.aot_paired(c, r, rc, rr, _all([c])), losses.dpo(c, r, rc, rr))
  r = rr + (jnp.exp(c - rc) - 1)  # r_l grows with r_w
  close(losses.aot_unpaired(c, r, rc, rr, _all([c])), losses.dpo(c, r, rc, rr))


def test_no_matching_costs_less():
  c, r, rc, rr = _draw(4)
  paired = losses.aot_paired(c, r, rc, rr, _all([c])).sum()
  unpaired = losses.aot_unpaired(c, r, rc, rr, _all([c])).sum()
  for order in itertools.permutations(range(4)):
    m = np.array(order)
    assert paired <= losses.dpo(c, r, rc[m], rr[m]).sum() + 1e-12
    assert unpaired <= losses.dpo(c, r[m], rc, rr[m]).sum() + 1e-12


@BOTH
@pytest.mark.parametrize("filler", [-1e4, np.nan])
def test_rows_that_fill_the_batch_have_no_part(loss, filler):
  arrays = _draw(6)
  expected = loss(*arrays, _all(arrays))
  slopes = _slopes(loss, arrays, _all(arrays))
  where = np.array([1, 2, 4, 5, 7, 8])
  valid = jnp.zeros(9, bool).at[where].set(True)
  # the fillers stand before, between and after
  padded = [jnp.full(9, filler).at[where].set(x) for x in arrays]
  loss_of_all = loss(*padded, valid)
  close(loss_of_all[where], expected, 1e-12)
  close(loss_of_all[~valid], 0)
  for mine, theirs in zip(_slopes(loss, padded, valid), slopes):
    close(mine[where], theirs, 1e-12)
    close(mine[~valid], 0)
  close(loss(*padded, jnp.zeros(9, bool)), 0)


def test_equal_values_take_ranks_in_order():
  zero, up = jnp.zeros(3), jnp.array([3.0, 1.0, 2.0])
  close(
    losses.aot_paired(zero, zero, up, zero, _all([up])),
    np.log1p(np.exp(0.1 * np.array([1.0, 2.0, 3.0]))),
  )
  close(
    losses.aot_unpaired(zero, up, zero, zero, _all([up])),
    np.log1p(np.exp(0.1 * np.array([1.0, 2.0, 3.0]))),
  )


def test_a_shift_of_both_cancels_in_the_paired_form_only():
  c, r, rc, rr = _draw(5)
  shift = jnp.array([1.0, -3, 0, 4, 2])
  args = (rc, rr, _all([c]))
  close(
    losses.aot_paired(c + shift, r + shift, *args),
    losses.aot_paired(c, r, *args),
  )
  moved = losses.aot_unpaired(c + shift, r + shift, *args)
  assert abs(moved - losses.aot_unpaired(c, r, *args)).max() > 1e-2


@BOTH
def test_sorted_over_all_devices(loss):
  """Sorting separately on each device would give other numbers."""
  arrays = _draw(32)
  valid = jnp.arange(32) % 5 > 0
  expected, slopes = loss(*arrays, valid), _slopes(loss, arrays, valid)
  mesh = make_mesh()
  assert mesh.size == 8
  rows = NamedSharding(mesh, PartitionSpec("data"))
  placed = jax.device_put([*arrays, valid], rows)
  assert len(placed[0].sharding.device_set) == 8
  sharded = jax.jit(loss, out_shardings=rows)(*placed)
  assert len(sharded.sharding.device_set) == 8
  close(sharded, expected, 1e-12)
  gradient = jax.jit(lambda *x: _slopes(loss, x[:-1], x[-1]))(*placed)
  for mine, theirs in zip(gradient, slopes):
    close(mine, theirs, 1e-12)
  apart = jnp.concatenate(
    [loss(*(x[i : i + 4] for x in (*arrays, valid))) for i in range(0, 32, 4)]
  )
  assert abs(apart - expected).max() > 1e-2


@BOTH
def test_signs(loss):
  pair = [jnp.array([x]) for x in (-3.0, -4.0, -3.5, -4.0)]
  up, down = _slopes(loss, pair, jnp.array([True]))
  assert up < 0 < down
