"""Log-probs of counted tokens only equal their float64 definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import logprobs, sharding
from jalign.logprobs import counted
from jalign.logprobs.counted import on_counted, sizes_of
from jalign.logprobs.tiles import Tiling
from jalign.types import Head
from tests.logprobs import oracle
from tests.programs import traced

B, T, D, V = 2, 12, 5, 11
WANT = ("entropy", "lse", "mean_logit", "top")
FORM = dict(scale=0.5, cap=2.0, temperature=(0.7, 2.5))
NAMES = ("logps", "entropy", "lse", "mean_logit")


@pytest.fixture(scope="module")
def arrays():
  keys = jax.random.split(jax.random.key(0), 4)
  return (
    jax.random.normal(keys[0], (B, T, D)),
    jax.random.normal(keys[1], (V, D)),
    jax.random.randint(keys[2], (B, T), 0, V),
    jax.random.normal(keys[3], (len(NAMES), B, T)),
  )


@pytest.fixture(params=["chosen", "all"])
def path(request, monkeypatch):
  """Both code paths: a choice among sizes, and all rows with zeros."""
  if request.param == "chosen":
    monkeypatch.setattr(counted, "LEAST_FLOP", 0)
  return request.param


def _scalar(values, given):
  return sum((given[i] * values[name]).sum() for i, name in enumerate(NAMES))


def _function(targets, given, form, **options):
  temperature = jnp.asarray(form["temperature"])

  def function(hidden, weight, mask):
    head = Head(weight, scale=form["scale"], soft_cap=form["cap"])
    values = logprobs.token_statistics(
      hidden,
      head,
      targets,
      want=WANT,
      temperature=temperature,
      mask=mask,
      **options,
    )._asdict()
    return _scalar(values, given), values

  return jax.value_and_grad(function, (0, 1), has_aux=True)


def _mask(count, total=B * T):
  """A mask of `count` tokens in random places."""
  chosen = np.random.default_rng(count).permutation(total)[:count]
  return np.isin(np.arange(total), chosen).reshape(B, -1)


@pytest.mark.parametrize("jit", [True, False])
def test_what_counts_is_exact_and_the_rest_is_zero(arrays, jit, path):
  hidden, weight, targets, given = arrays
  run, times = traced(_function(targets, given, FORM, tile=4))
  run = jax.jit(run) if jit else run
  z = oracle.logits(hidden, weight, **FORM)
  expected = oracle.statistics(z, targets)
  for count in (0, 1, 7, 8, 9, 16, 23, 24) if jit else (9,):
    mask = _mask(count)
    # Values of other tokens may be anything.
    spoilt = jnp.where(mask[..., None], hidden, jnp.nan)
    (_, values), grads = run(spoilt, weight, jnp.asarray(mask))
    for name, x in values.items():
      np.testing.assert_allclose(
        x, np.where(mask, expected[name], 0), atol=5e-6, err_msg=name
      )

    def scalar(hidden, weight, mask=mask):
      z = oracle.logits(hidden, weight, **FORM)
      values = oracle.statistics(z, targets)
      values = {name: np.where(mask, values[name], 0) for name in NAMES}
      return _scalar(values, np.asarray(given, np.float64))

    for got, exact in zip(grads, oracle.gradient(scalar, hidden, weight)):
      np.testing.assert_allclose(got, exact, atol=5e-5)
  if jit:
    assert len(times) == 1


def test_a_dense_head_counts_alike(arrays):
  hidden, weight, targets, _ = arrays
  mask = jnp.asarray(_mask(9))
  head = Head(None, dense=lambda h: h @ weight.T)
  got = logprobs.token_statistics(hidden, head, targets, want=WANT, mask=mask)
  want = logprobs.token_statistics(
    hidden, Head(weight), targets, want=WANT, mask=mask
  )
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=5e-6), got, want
  )


@pytest.mark.parametrize("tokens", [1, 7, 8, 24, 100, 1016, 8192])
def test_sizes_rise_to_all_tokens(tokens, monkeypatch):
  assert sizes_of(tokens, 100) == (tokens,)
  monkeypatch.setattr(counted, "LEAST_FLOP", 0)
  sizes = sizes_of(tokens, 100)
  assert sizes[-1] == tokens and len(sizes) <= 5
  steps = np.diff([0, *sizes])
  assert (steps > 0).all() and steps.max() <= -(-tokens // 5) + 7


def test_the_smallest_size_that_holds_them_is_computed(monkeypatch):
  monkeypatch.setattr(counted, "LEAST_FLOP", 0)
  tokens = B * 32
  sizes = sizes_of(tokens, 1)
  assert len(sizes) == 4
  computed = lambda weight, x: jnp.full(x.shape, x.shape[1])
  run = jax.jit(
    lambda mask: on_counted(
      Tiling(1, None, None), computed, "WR", "R", mask, jnp.ones(1), mask
    )
  )
  for count in range(1, tokens + 1):
    mask = _mask(count, tokens)
    least = next(size for size in sizes if size >= count)
    np.testing.assert_array_equal(run(mask), np.where(mask, least, 0))


def test_of_examples_under_vmap_the_longest_decides(arrays, path):
  """Gradients by example; only the chosen branch is computed."""
  hidden, weight, targets, _ = arrays
  mask = jnp.arange(T) < jnp.array([[3], [10]])

  def value_and_slopes(hidden, targets, mask):
    logps = lambda h, w: jnp.sum(
      logprobs.token_logprobs(h[None], Head(w), targets[None], mask=mask[None])
    )
    return jax.value_and_grad(logps, (0, 1))(hidden, weight)

  got = jax.jit(jax.vmap(value_and_slopes))(hidden, targets, mask)
  for i in range(B):
    want = value_and_slopes(hidden[i], targets[i], mask[i])
    jax.tree.map(
      lambda x, y, i=i: np.testing.assert_allclose(x[i], y, atol=1e-5),
      got,
      want,
    )
  # One for each pass: a choice by a batched index wouldn't be a cond.
  text = str(jax.make_jaxpr(jax.vmap(value_and_slopes))(hidden, targets, mask))
  assert text.count("cond[") == (2 if path == "chosen" else 0)


@pytest.mark.parametrize(
  "mesh_shape",
  [
    (2, 2, 2),
    pytest.param((1, 1, 8), marks=pytest.mark.slow),
    pytest.param((8, 1, 1), marks=pytest.mark.slow),
  ],
)
def test_sharded_equals_unsharded(mesh_shape, path):
  """The devices have from none to all of their tokens counted."""
  keys = jax.random.split(jax.random.key(1), 4)
  rows, length = 8, 9
  hidden = jax.random.normal(keys[0], (rows, length, 16))
  weight = jax.random.normal(keys[1], (64, 16))
  targets = jax.random.randint(keys[2], (rows, length), 0, 64)
  given = jax.random.normal(keys[3], (len(NAMES), rows, length))
  mask = jnp.arange(length) < jnp.array([0, 9, 2, 3, 0, 0, 5, 1])[:, None]

  def function(hidden, weight, targets, mask):
    head = Head(weight, vocab_axis="tensor", batch_axes=("data", "fsdp"))
    values = logprobs.token_statistics(
      hidden, head, targets, want=WANT, tile=6, mask=mask
    )._asdict()
    return _scalar(values, given), values

  run = jax.value_and_grad(function, (0, 1), has_aux=True)
  want = jax.jit(run)(hidden, weight, targets, mask)
  mesh = sharding.make_mesh(*mesh_shape)
  with jax.set_mesh(mesh):
    split = lambda x: jax.device_put(x, sharding.batch_sharding(mesh))
    spec = jax.sharding.PartitionSpec("tensor", "fsdp")
    placed = jax.device_put(weight, jax.sharding.NamedSharding(mesh, spec))
    got = jax.jit(run)(split(hidden), placed, split(targets), split(mask))
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5),
    jax.device_get(got),
    jax.device_get(want),
  )
