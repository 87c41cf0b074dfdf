"""A head and an embedding whose width is split equal those that are whole."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import logprobs, sharding
from jalign.logprobs import counted
from jalign.logprobs.candidates import candidate_logprobs
from jalign.lookup import lookup
from jalign.types import Head
from tests import programs

B, T, D, V, TILE = 8, 5, 16, 96, 20
SPLIT = dict(
  vocab_axis="tensor", batch_axes=("data", "fsdp"), width_axis="fsdp"
)
MESHES = [(1, 8, 1), (2, 4, 1), (1, 4, 2), (2, 2, 2)]
HEAD = jax.sharding.PartitionSpec("tensor", "fsdp")


@functools.cache
def _arrays(rows):
  keys = jax.random.split(jax.random.key(0), 7)
  shape = rows, T
  return (
    jax.random.normal(keys[0], (V, D)),
    jax.random.normal(keys[1], (V, D)),
    jax.random.normal(keys[2], (*shape, D)),
    jax.random.normal(keys[3], (*shape, 3 * D)),
    jax.random.normal(keys[4], (V, 3 * D)),
    jax.random.randint(keys[5], shape, 0, V),
    jax.random.bernoulli(keys[6], 0.6, shape),
  )


def _everything(weight, table, hidden, ref_hidden, ref_weight, tokens, mask):
  """A scalar of all that is computed with a vocabulary, and the parts of it."""
  head = Head(weight, scale=0.5, soft_cap=3.0, **SPLIT)
  reference = Head(ref_weight, **SPLIT)
  hidden = hidden + lookup(table, tokens, hidden.dtype, **SPLIT)
  own = head.replace(weight=table)  # the table is a tied head, too
  statistics = logprobs.token_statistics(
    hidden,
    head,
    tokens,
    want=("entropy", "lse", "mean_logit"),
    tile=TILE,
    temperature=0.7,
    mask=mask,
  )
  tied = logprobs.token_logprobs(hidden, own, tokens, tile=TILE)
  both = hidden, head, ref_hidden, reference
  kl = logprobs.token_kl(*both, tile=TILE)
  forward = logprobs.token_forward_kl(*both, tile=TILE)
  top = logprobs.top_logprobs(*both, 5)
  mixed = logprobs.mixture_logprobs(*both, tokens, 0.3, tile=TILE)
  lists = candidate_logprobs(hidden, head, tokens, mixed)
  dense = Head(None, dense=lambda h: h @ weight.T)
  dense = logprobs.token_logprobs(hidden, dense, tokens)
  parts = statistics, tied, kl, forward, top, mixed, lists, dense

  def rising(x):
    by_token = jnp.sum(jnp.sin(x).reshape(*tokens.shape, -1), -1)
    return jnp.sum(by_token * jnp.arange(1.0, T + 1))

  return sum(map(rising, jax.tree.leaves(parts))), parts


@functools.cache
def _expected(rows):
  run = jax.value_and_grad(_everything, (0, 1, 2), has_aux=True)
  return jax.device_get(jax.jit(run)(*_arrays(rows)))


def _place(mesh, rows, arrays=None):
  weight, table, hidden, ref_hidden, ref_weight, tokens, mask = (
    _arrays(rows) if arrays is None else arrays
  )
  by_head = lambda x: jax.device_put(x, jax.sharding.NamedSharding(mesh, HEAD))
  by_row = lambda x: sharding.place(x, mesh)
  return (
    by_head(weight),
    by_head(table),
    by_row(hidden),
    by_row(ref_hidden),
    by_head(ref_weight),
    by_row(tokens),
    by_row(mask),
  )


# The devices don't divide a batch of 6 rows.
@pytest.mark.parametrize(
  "shape, rows",
  [
    ((2, 2, 2), B),
    ((1, 4, 2), 6),
    *(pytest.param(shape, B, marks=pytest.mark.slow) for shape in MESHES[:-1]),
  ],
)
def test_losses_and_gradients_equal_those_of_one_device(
  shape, rows, monkeypatch
):
  if shape == (2, 2, 2):  # one of a few sizes of counted rows is chosen
    monkeypatch.setattr(counted, "LEAST_FLOP", 0)
  mesh = sharding.make_mesh(*shape)
  run = jax.value_and_grad(_everything, (0, 1, 2), has_aux=True)
  with jax.set_mesh(mesh):
    got = jax.jit(run)(*_place(mesh, rows))
  # The gradients stay where the parameters are.
  for gradient in got[1][:2]:
    assert gradient.sharding.spec == HEAD
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4, rtol=1e-5),
    jax.device_get(got),
    _expected(rows),
  )


@pytest.mark.parametrize("shape", MESHES)
def test_devices_exchange_tiles_and_states_and_hold_no_whole_weight(shape):
  """The exchanges of one policy's pass and its gradient, by their sizes."""
  data, fsdp, tensor = shape
  rows, own, part = B // (data * fsdp), D // fsdp, V // tensor

  def loss(weight, table, tokens):
    states = lookup(table, tokens, jnp.float32, **SPLIT)
    head = Head(weight, **SPLIT)
    return jnp.sum(logprobs.token_logprobs(states, head, tokens, tile=TILE))

  mesh = sharding.make_mesh(*shape)
  placed = _place(mesh, B)
  with jax.set_mesh(mesh):
    run = jax.jit(jax.grad(loss, (0, 1)))
    text = run.lower(placed[0], placed[1], placed[5]).compile().as_text()
  found = {(x.kind, x.size, x.loop) for x in programs.exchanges(text)}
  last = part % TILE
  states = B // data * T * own  # of the devices that share the width
  expected = {
    ("all-gather", TILE * D, True),
    ("all-gather", last * D, False),
    ("reduce-scatter", TILE * own, True),
    ("reduce-scatter", last * own, False),
    ("all-gather", B // data * T, False),  # ids
  }
  if tensor > 1:
    # Statistics of the tokens, the states' gradient, and embeddings.
    expected |= {
      ("all-reduce", size, False) for size in (rows * T, rows * T * D, states)
    }
  if data > 1:
    expected.add(("all-reduce", part * own, False))
  exchanged = {x for x in found if x[0] != "all-to-all"}
  assert exchanged == expected
  assert ("all-to-all", states // fsdp, False) in found
  shapes = programs.shapes(text)
  assert (part, D) not in shapes and (V, D) not in shapes
  assert max(map(math.prod, shapes)) < part * D
