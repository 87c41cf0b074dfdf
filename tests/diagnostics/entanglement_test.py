"""Entanglement: by closed forms on linear softmax models; a transformer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import diagnostics, losses, sharding
from jalign.errors import UserError
from jalign.logprobs import sequence_logprobs
from jalign.models import param_specs
from jalign.types import Sequences
from tests import programs
from tests.models.tiny import tiny
from tests.training import batches

CASES = diagnostics.CASES


def _linear(params, rows):
  """log softmax(W phi) of tokens; every position has a phi of its own."""
  logps = jax.nn.log_softmax(rows.features @ params["w"].T)
  picked = jnp.take_along_axis(logps, rows.sequences.tokens[..., None], -1)
  return jnp.sum(picked[..., 0] * rows.sequences.mask, -1)


class _Rows:
  """Sequences with features [R, T, D], as a pytree like Sequences."""

  def __init__(self, sequences, features):
    self.sequences, self.features = sequences, features

  def replace(self, packed=None):
    return self


jax.tree_util.register_pytree_node(
  _Rows,
  lambda r: ((r.sequences, r.features), None),
  lambda _, c: _Rows(*c),
)


def _decisions(count, vocab=7, width=5, length=1, shared=0, seed=0):
  """Pairs whose responses are equal up to token `shared` and differ then."""
  rng = np.random.default_rng(seed)
  features = rng.normal(size=(count, 2, length, width))
  tokens = rng.integers(0, vocab, (count, 2, length))
  features[:, 1, : shared + 1] = features[:, 0, : shared + 1]
  tokens[:, 1, :shared] = tokens[:, 0, :shared]
  differ = (
    tokens[:, 0, shared] + 1 + rng.integers(0, vocab - 1, count)
  ) % vocab
  tokens[:, 1, shared] = differ
  flat = lambda x: x.reshape(2 * count, *x.shape[2:])
  rows = Sequences(
    jnp.asarray(flat(tokens), jnp.int32),
    jnp.ones((2 * count, length), bool),
    jnp.full(2 * count, length, jnp.int32),
  )
  params = {"w": jnp.asarray(rng.normal(size=(vocab, width)), jnp.float32)}
  return params, _Rows(rows, jnp.asarray(flat(features), jnp.float32))


def test_single_decisions_have_the_closed_form():
  """Norms and inner product follow from the softmax's probabilities."""
  params, rows = _decisions(40)
  got = diagnostics.gradient_products(_linear, params, rows)
  w = np.asarray(params["w"], np.float64)
  phi = np.asarray(rows.features, np.float64)[::2, 0]
  tokens = np.asarray(rows.sequences.tokens).reshape(-1, 2)
  z = phi @ w.T
  p = np.exp(z - z.max(-1, keepdims=True))
  p /= p.sum(-1, keepdims=True)
  at = np.arange(len(p))
  a, b = p[at, tokens[:, 0]], p[at, tokens[:, 1]]
  square, size = (p**2).sum(-1), (phi**2).sum(-1)
  np.testing.assert_allclose(
    got.chosen["all"], (1 - 2 * a + square) * size, rtol=1e-4
  )
  np.testing.assert_allclose(
    got.rejected["all"], (1 - 2 * b + square) * size, rtol=1e-4
  )
  np.testing.assert_allclose(
    got.inner["all"], (square - a - b) * size, rtol=1e-3, atol=1e-4
  )
  # With rho = 1 a single decision is always in the ideal case: this is the law.
  ones = jnp.ones(40)
  said = diagnostics.forecast(
    got.chosen["all"], got.rejected["all"], got.inner["all"], ones, ones
  )
  assert {CASES[i] for i in np.asarray(said.case)} == {"ideal"}
  assert (np.asarray(said.margin) > 0).all()


def test_two_outcomes_always_pull_apart():
  params, rows = _decisions(20, vocab=2)
  got = diagnostics.gradient_products(_linear, params, rows)
  assert (np.asarray(got.inner["all"]) < 0).all()
  np.testing.assert_allclose(got.cosine(), -1.0, atol=1e-5)


def test_a_shared_prefix_breaks_the_law():
  params, rows = _decisions(300, length=4, shared=3)
  got = diagnostics.gradient_products(_linear, params, rows)
  ones = jnp.ones(300)
  said = diagnostics.forecast(
    got.chosen["all"], got.rejected["all"], got.inner["all"], ones, ones
  )
  cases = np.asarray(said.case)
  assert 0.1 < np.mean(cases != 0) < 0.9
  # If both pulls are positive, the inner product decides the case.
  inner, c, r = (
    np.asarray(x["all"]) for x in (got.inner, got.chosen, got.rejected)
  )
  low, high = np.minimum(c, r), np.maximum(c, r)
  np.testing.assert_array_equal(cases == 0, inner < low)
  between = (inner > low) & (inner < high)
  np.testing.assert_array_equal(cases == 2, between & (c < r))
  np.testing.assert_array_equal(cases == 1, between & (c > r))
  assert not (cases == 3).any()  # impossible there


@pytest.mark.parametrize(
  "pulls", [(1.0, 1.0), (2.0, 0.5), (-0.5, -0.7), (0.3, -1.0)]
)
def test_forecasts_are_what_a_small_step_does(pulls):
  params, rows = _decisions(12, length=4, shared=2, seed=3)
  got = diagnostics.gradient_products(_linear, params, rows)
  d_w, d_l = (jnp.full(12, x) for x in pulls)
  said = diagnostics.forecast(
    got.chosen["all"], got.rejected["all"], got.inner["all"], d_w, d_l
  )
  rate = 1e-4
  loss = lambda p, pair: _linear(p, pair) @ jnp.array([-pulls[0], pulls[1]])
  gradient = jax.jit(jax.grad(loss))
  for i in range(12):
    pair = jax.tree.map(lambda x, i=i: x[2 * i : 2 * i + 2], rows)
    step = jax.tree.map(
      lambda x, g: x - rate * g, params, gradient(params, pair)
    )
    up, down = diagnostics.changes(_linear, params, step, pair)
    np.testing.assert_allclose(up[0] / rate, said.chosen[i], rtol=0.1, atol=0.1)
    np.testing.assert_allclose(
      down[0] / rate, said.rejected[i], rtol=0.1, atol=0.1
    )
    big = min(abs(float(said.chosen[i])), abs(float(said.rejected[i]))) > 0.3
    if big:
      assert int(diagnostics.case_of(up, down)[0]) == int(said.case[i])


@functools.cache
def _transformer():
  config, model, params = tiny()
  logps = jax.jit(functools.partial(sequence_logprobs, model))
  return config, model, params, logps, batches.sequences(8)


GROUPS = {
  "all": ("*",),
  "attention": ("blocks/w?", "blocks/b?", "blocks/?_norm"),
  "rest": ("embed", "norm", "blocks/gate", "blocks/up", "blocks/down",
           "blocks/attn_norm", "blocks/mlp_norm"),
}  # fmt: skip


def test_groups_add_up_to_the_whole_gradient():
  _, _, params, logps, rows = _transformer()
  got = jax.jit(
    lambda p: diagnostics.gradient_products(logps, p, rows, GROUPS)
  )(params)
  for part in got:
    np.testing.assert_allclose(
      part["attention"] + part["rest"], part["all"], rtol=1e-4, atol=1e-3
    )
  gradient = jax.jit(jax.grad(lambda p, i: logps(p, rows)[i]))
  grads = [gradient(params, i) for i in range(2)]
  flat = [
    np.concatenate([np.ravel(x) for x in jax.tree.leaves(g)]) for g in grads
  ]
  want = [flat[0] @ flat[0], flat[1] @ flat[1], flat[0] @ flat[1]]
  np.testing.assert_allclose([x["all"][0] for x in got], want, rtol=1e-4)


def test_sharded_equals_unsharded():
  config, _, params, logps, rows = _transformer()
  run = jax.jit(lambda p, r: diagnostics.gradient_products(logps, p, r, GROUPS))
  want = run(params, rows)
  mesh = sharding.make_mesh(1, 4, 2)
  with jax.set_mesh(mesh):
    placed = jax.device_put(
      params, sharding.shardings(param_specs(config), mesh)
    )
    got = run(placed, rows)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3),
    got,
    want,
  )


def test_no_gradient_leaves_its_device():
  """Eight tensor-parallel devices exchange no array as large as a weight."""
  config, model, params = tiny(
    vocab_size=4096, hidden_size=128, intermediate_size=256,
    num_attention_heads=8, num_key_value_heads=8,
  )  # fmt: skip
  logps = functools.partial(sequence_logprobs, model)
  mesh = sharding.make_mesh(1, 1, 8)
  with jax.set_mesh(mesh):
    placed = jax.device_put(
      params, sharding.shardings(param_specs(config), mesh)
    )
    text = (
      jax.jit(lambda p, r: diagnostics.gradient_products(logps, p, r))
      .lower(placed, batches.sequences(4))
      .compile()
      .as_text()
    )
  smallest = config.hidden_size**2 // 8  # a device's part of a projection
  sizes = [exchange.size for exchange in programs.exchanges(text)]
  assert sizes and max(sizes) < smallest, sorted(sizes)[-5:]


def test_a_group_that_is_none():
  _, _, params, logps, rows = _transformer()
  with pytest.raises(UserError, match=r"groups\['x'\].*blocks/wq"):
    diagnostics.gradient_products(logps, params, rows, {"x": ("heads",)})


def test_pulls_of_a_loss_forecast_its_own_step():
  """The forecast is right for a step of SGD by DPO on a transformer's pair."""
  _, model, params, logps, rows = _transformer()
  pair = jax.tree.map(lambda x: x[:2], rows)
  reference = model.init(jax.random.key(5))
  ref = logps(reference, pair)
  loss = functools.partial(losses.dpo, beta=0.3)

  def value(p):
    a, b = logps(p, pair)
    return loss(a[None], b[None], ref[:1], ref[1:])[0]

  now = logps(params, pair)
  d_w, d_l = diagnostics.pulls_of(
    loss,
    {
      "chosen_logps": now[:1],
      "rejected_logps": now[1:],
      "ref_chosen_logps": ref[:1],
      "ref_rejected_logps": ref[1:],
    },
  )
  got = diagnostics.gradient_products(logps, params, pair)
  said = diagnostics.forecast(
    got.chosen["all"], got.rejected["all"], got.inner["all"], d_w, d_l
  )
  rate = 1e-4
  step = jax.tree.map(
    lambda x, g: x - rate * g, params, jax.jit(jax.grad(value))(params)
  )
  up, down = diagnostics.changes(logps, params, step, pair)
  np.testing.assert_allclose(up / rate, said.chosen, rtol=0.05)
  np.testing.assert_allclose(down / rate, said.rejected, rtol=0.05)


def test_token_gram_adds_up_to_the_inner_product():
  _, model, params, logps, rows = _transformer()
  pair = jax.tree.map(lambda x: x[:2], rows)

  tokens = diagnostics.dense_logprobs(model)
  gram = jax.jit(lambda p: diagnostics.token_gram(tokens, p, pair))(params)
  want = diagnostics.gradient_products(logps, params, pair).inner["all"][0]
  np.testing.assert_allclose(gram.sum(), want, rtol=1e-3)
  i, j = (
    np.argwhere(np.asarray(pair.mask[0][1:]))[0, 0],
    np.argwhere(np.asarray(pair.mask[1][1:]))[0, 0],
  )
  slope = jax.jit(jax.grad(lambda p, row, at: tokens(p, pair)[row, at]))
  slopes = slope(params, 0, i), slope(params, 1, j)
  dots = jax.tree.map(lambda a, b: jnp.sum(a * b), *slopes)
  np.testing.assert_allclose(gram[i, j], sum(jax.tree.leaves(dots)), rtol=1e-3)
  assert not np.asarray(gram)[~np.asarray(pair.mask[0][1:])].any()


def test_the_last_layers_part_is_that_of_the_head():
  """It equals products of gradients in the head's weight."""
  _, model, params = tiny(tie_word_embeddings=False)
  pair = jax.tree.map(lambda x: x[:2], batches.sequences(8))
  tokens = diagnostics.dense_logprobs(model)
  of_head = lambda weight, rows: tokens(params | {"unembed": weight}, rows)
  gram = functools.partial(diagnostics.token_gram, of_head)
  want = jax.jit(gram)(params["unembed"], pair)
  got = diagnostics.last_layer_gram(
    jax.jit(model.forward)(params, pair.tokens)[:, :-1],
    model.head(params),
    pair.tokens[:, 1:],
    pair.mask[:, 1:],
  )
  assert np.abs(want).max() > 0.5
  with pytest.raises(UserError, match="soft cap"):
    capped = model.head(params).replace(soft_cap=3.0)
    diagnostics.last_layer_gram(pair.tokens, capped, pair.tokens, pair.mask)
  np.testing.assert_allclose(got, want, atol=1e-3 * np.abs(want).max())


def test_normalised_pulls_never_move_a_pair_the_wrong_way():
  params, rows = _decisions(300, length=4, shared=3)
  got = diagnostics.gradient_products(_linear, params, rows)
  c, r, inner = (x["all"] for x in got)
  pulls = diagnostics.normalised_pulls(jnp.full(300, 0.7), c, r)
  said = diagnostics.forecast(c, r, inner, *pulls)
  np.testing.assert_array_less(-1e-3, said.chosen)
  np.testing.assert_array_less(said.rejected, 1e-3)
  cosine = np.asarray(got.cosine())
  np.testing.assert_allclose(
    said.chosen, 0.7 * np.sqrt(c) * (1 - cosine), rtol=1e-3, atol=1e-3
  )
  np.testing.assert_allclose(
    said.rejected, -0.7 * np.sqrt(r) * (1 - cosine), rtol=1e-3, atol=1e-3
  )
