"""MLPs of experts equal a loop over tokens in float64, on meshes, too."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import logprobs, sharding
from jalign.errors import UserError
from jalign.models import experts, param_specs
from tests.models.tiny import TINY, tiny

FEW = dict(num_experts=5, num_experts_per_tok=2, attention_bias=False)


def _weights(config, seed=0):
  d, f, x = config.hidden_size, config.intermediate_size, config.num_experts
  shapes = {"router": (d, x), "gate": (x, d, f), "up": (x, d, f)}
  shapes["down"] = (x, f, d)
  keys = jax.random.split(jax.random.key(seed), 4)
  return {
    name: 0.5 * jax.random.normal(key, shape)
    for key, (name, shape) in zip(keys, shapes.items())
  }


def _oracle(p, x, config):
  """The output of each token by itself, in float64."""
  p = {k: np.asarray(v, np.float64) for k, v in p.items()}
  rows = np.asarray(x, np.float64).reshape(-1, x.shape[-1])
  out = np.zeros_like(rows)
  for n, row in enumerate(rows):
    scores = row @ p["router"]
    odds = np.exp(scores - scores.max())
    odds /= odds.sum()
    chosen = np.argsort(-odds)[: config.num_experts_per_tok]
    total = odds[chosen].sum() if config.norm_topk_prob else 1.0
    for e in chosen:
      gate, up = row @ p["gate"][e], row @ p["up"][e]
      inner = gate / (1 + np.exp(-gate)) * up
      out[n] += odds[e] / total * (inner @ p["down"][e])
  return out.reshape(x.shape)


@pytest.mark.parametrize("norm", [True, False])
def test_equals_a_loop_over_tokens(norm):
  config = dataclasses.replace(TINY, norm_topk_prob=norm, **FEW)
  p = _weights(config)
  x = jax.random.normal(jax.random.key(1), (3, 4, config.hidden_size))
  got = jax.jit(lambda p, x: experts.mlp(p, x, config))(p, x)
  want = _oracle(p, x, config)
  assert np.abs(want).mean() > 0.1
  np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max())


def test_no_token_is_dropped_where_all_want_one_expert():
  config = dataclasses.replace(TINY, **FEW | dict(num_experts_per_tok=1))
  p = _weights(config)
  x = jax.random.normal(jax.random.key(1), (2, 9, config.hidden_size))
  p["router"] = jnp.zeros_like(p["router"]).at[:, 3].set(1.0)
  x = jnp.abs(x)  # so that expert 3 has the highest score of all
  got = jax.jit(lambda p, x: experts.mlp(p, x, config))(p, x)
  np.testing.assert_allclose(got, _oracle(p, x, config), rtol=1e-3, atol=1e-4)
  assert (np.abs(got).sum(-1) > 0).all()


def test_gradients_are_those_of_dense_experts():
  config = dataclasses.replace(TINY, **FEW)
  p = _weights(config)
  x = jax.random.normal(jax.random.key(1), (2, 3, config.hidden_size))
  out = jax.random.normal(jax.random.key(2), x.shape)

  def dense(p, x):
    factors, chosen = experts.route(
      x.reshape(-1, x.shape[-1]), p["router"], config
    )
    rows = x.reshape(-1, x.shape[-1])
    inner = jax.nn.silu(jnp.einsum("nd,xdf->nxf", rows, p["gate"]))
    inner *= jnp.einsum("nd,xdf->nxf", rows, p["up"])
    outputs = jnp.einsum("nxf,xfd->nxd", inner, p["down"])
    picked = jnp.take_along_axis(outputs, chosen[..., None], 1)
    return jnp.sum(picked * factors[..., None], 1).reshape(x.shape)

  def gradients(f):
    total = lambda p, x: jnp.sum(f(p, x) * out)
    return jax.jit(jax.grad(total, (0, 1)))(p, x)

  got = gradients(lambda p, x: experts.mlp(p, x, config))
  want = gradients(dense)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max()),
    got,
    want,
  )


@pytest.mark.parametrize("shape", [(2, 2, 2), (1, 1, 8), (8, 1, 1)])
def test_sharded_equals_unsharded(shape):
  config, model, params = tiny(**FEW)
  tokens = jax.random.randint(jax.random.key(1), (8, 6), 0, 64)

  def loss(params, tokens):
    hidden = model.forward(params, tokens)[:, :-1]
    logps = logprobs.token_logprobs(hidden, model.head(params), tokens[:, 1:])
    return -jnp.mean(logps)

  want = jax.jit(jax.value_and_grad(loss))(params, tokens)
  mesh = sharding.make_mesh(*shape)
  if shape == (1, 1, 8):  # two key/value heads don't split in eight
    where = sharding.replicated(mesh)
  else:
    where = sharding.shardings(param_specs(config), mesh)
  with jax.set_mesh(mesh):
    placed = jax.device_put(params, where)
    rows = jax.device_put(tokens, sharding.batch_sharding(mesh))
    got = jax.jit(jax.value_and_grad(loss))(placed, rows)
  np.testing.assert_allclose(got[0], want[0], rtol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      a, b, atol=1e-4 * max(np.abs(b).max(), 1e-3)
    ),
    jax.device_get(got[1]),
    want[1],
  )


def test_what_goes_with_experts():
  for wrong in (
    dict(num_experts=2, num_experts_per_tok=3),
    dict(num_experts=2),
    dict(num_experts_per_tok=1),
    dict(num_experts=2, num_experts_per_tok=1, mlp_bias=True),
  ):
    with pytest.raises(UserError, match="num_experts"):
      dataclasses.replace(TINY, **wrong)
