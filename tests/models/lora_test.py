"""LoRA and DoRA: their formulas, shared memory, decoding, meshes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import logprobs, sharding
from jalign.decode import generate, sampler
from jalign.errors import UserError
from jalign.models import lora, param_specs
from jalign.models.lora import LoraConfig
from jalign.models.lowrank import LowRank, whole
from tests.models.tiny import TINY, tiny

CONFIGS = {
  "lora": LoraConfig(rank=3, alpha=6.0),
  "rslora": LoraConfig(rank=3, alpha=6.0, use_rslora=True),
  "dora": LoraConfig(rank=3, alpha=6.0, use_dora=True),
  "few": LoraConfig(rank=2, targets=("blocks/w[qv]", "blocks/down")),
}


def random_delta(config, settings, base, seed=3):
  """A delta with random values, none of which is 0."""
  delta = lora.init_delta(config, settings, base, jax.random.key(seed))
  return _noisy(delta, jax.random.key(seed + 1))


@jax.jit
def _noisy(delta, key):
  leaves, tree = jax.tree.flatten(delta)
  keys = jax.random.split(key, len(leaves))
  noise = [0.2 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves)]
  return jax.tree.unflatten(tree, [x + n for x, n in zip(leaves, noise)])


def _logits(model, params, tokens):
  hidden = jax.jit(model.forward)(params, tokens)
  return logprobs.logits(model.head(params), hidden)


def _tokens():
  return jax.random.randint(jax.random.key(1), (2, 9), 0, 64)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_fresh_delta_changes_nothing(name):
  config, model, base = tiny()
  delta = lora.init_delta(config, CONFIGS[name], base, jax.random.key(3))
  policy = lora.join(CONFIGS[name], delta, base)
  want = _logits(model, base, _tokens())
  np.testing.assert_allclose(_logits(model, policy, _tokens()), want, atol=1e-4)
  # A and B aren't both zero: B is, and A is random.
  assert all(np.abs(x["a"]).min() >= 0 < np.abs(x["a"]).max()
             for x in delta["blocks"].values())  # fmt: skip


@pytest.mark.parametrize("inputs", [1, 2])
@pytest.mark.parametrize("dora", [False, True])
def test_the_weight_is_that_of_the_formula(inputs, dora):
  rng = np.random.default_rng(0)
  shape, rank, scale = (4, 3, 5), 2, 0.7
  w, a = rng.normal(size=shape), rng.normal(size=(*shape[:inputs], rank))
  b = rng.normal(size=(rank, *shape[inputs:]))
  m = rng.uniform(1, 2, shape[inputs:]) if dora else None
  flat = lambda x, rows: x.reshape(rows, -1)
  rows = int(np.prod(shape[:inputs]))
  want = flat(w, rows) + scale * flat(a, rows) @ flat(b, rank)
  if dora:
    want *= m.reshape(-1) / np.sqrt(np.square(want).sum(0))
  f32 = lambda x: None if x is None else jnp.asarray(x, jnp.float32)
  got = whole(LowRank(f32(w), f32(a), f32(b), f32(m), scale))
  np.testing.assert_allclose(got, want.reshape(shape), atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_merged_and_joined_say_the_same(name):
  config, model, base = tiny()
  settings = CONFIGS[name]
  policy = lora.join(settings, random_delta(config, settings, base), base)
  merged = jax.jit(lora.merge)(policy)
  assert jax.tree.structure(merged) == jax.tree.structure(base)
  want = _logits(model, merged, _tokens())
  assert np.abs(want - _logits(model, base, _tokens())).max() > 0.5
  np.testing.assert_allclose(_logits(model, policy, _tokens()), want, atol=1e-3)
  said = [
    generate(
      model,
      params,
      _tokens(),
      jnp.array([9, 5]),
      jax.random.split(jax.random.key(0), 2),
      draw=sampler(temperature=0),
      max_new_tokens=6,
      stop_ids=(),
    ).sequences.tokens
    for params in (policy, merged)
  ]
  np.testing.assert_array_equal(*said)


def test_scales():
  assert LoraConfig(rank=4, alpha=8.0).scale == 2.0
  assert LoraConfig(rank=4, alpha=8.0, use_rslora=True).scale == 4.0


def test_gradients_are_the_chain_rule_of_the_weights():
  """dA = s dW B^T and dB = s A^T dW; DoRA's hold the length constant."""
  config, model, base = tiny()
  tokens = _tokens()

  def loss(params):
    hidden = model.forward(params, tokens)[:, :-1]
    logps = logprobs.token_logprobs(hidden, model.head(params), tokens[:, 1:])
    return -jnp.sum(logps)

  gradient = jax.jit(jax.grad(loss))
  for name in ("lora", "dora"):
    settings = CONFIGS[name]
    delta = random_delta(config, settings, base)
    policy = lambda d, s=settings: lora.join(s, d, base)
    got = jax.jit(jax.grad(lambda d, p=policy: loss(p(d))))(delta)["blocks"]
    merged = jax.jit(lambda d, p=policy: lora.merge(p(d)))(delta)
    full, merged = gradient(merged)["blocks"], merged["blocks"]
    for key in ("wq", "wo", "down"):
      n = 2 if key == "wo" else 1
      for layer in range(config.num_hidden_layers):
        d = {k: np.asarray(x[layer], np.float64)
             for k, x in delta["blocks"][key].items()}  # fmt: skip
        rows = int(np.prod(d["a"].shape[:-1]))
        g, w = (
          np.asarray(x[key][layer], np.float64).reshape(rows, -1)
          for x in (full, merged)
        )
        a, b = d["a"].reshape(rows, -1), d["b"].reshape(3, -1)
        assert n == d["a"].ndim - 1
        if name == "dora":
          m = d["magnitude"].reshape(-1)
          base_w = np.asarray(base["blocks"][key][layer], np.float64)
          sum_w = base_w.reshape(rows, -1) + settings.scale * a @ b
          length = np.sqrt(np.square(sum_w).sum(0))
          want = (g * w / m).sum(0)
          mine = np.asarray(got[key]["magnitude"][layer]).reshape(-1)
          np.testing.assert_allclose(mine, want, atol=2e-3 * np.abs(want).max())
          g = g * m / length
        for part, want in (
          ("a", settings.scale * g @ b.T),
          ("b", settings.scale * a.T @ g),
        ):
          mine = np.asarray(got[key][part][layer]).reshape(want.shape)
          np.testing.assert_allclose(mine, want, atol=2e-3 * np.abs(want).max())


def test_policy_and_reference_share_the_base():
  config, _, base = tiny()
  settings = CONFIGS["dora"]
  delta = lora.init_delta(config, settings, base, jax.random.key(3))
  policy = lora.join(settings, delta, base)
  size = lambda *trees: sum(
    {x.unsafe_buffer_pointer(): x.nbytes for x in jax.tree.leaves(trees)}
    .values()
  )  # fmt: skip
  assert size(policy, base) == size(base) + size(delta)
  assert size(delta) < size(base)


@pytest.mark.parametrize("name", ["lora", "dora"])
def test_sharded_equals_unsharded(name):
  config, model, base = tiny()
  settings = CONFIGS[name]
  delta = random_delta(config, settings, base)
  tokens = jax.random.randint(jax.random.key(1), (8, 9), 0, 64)

  def loss(delta, base, tokens):
    params = lora.join(settings, delta, base)
    hidden = model.forward(params, tokens)[:, :-1]
    logps = logprobs.token_logprobs(hidden, model.head(params), tokens[:, 1:])
    return -jnp.mean(logps)

  want = jax.jit(jax.value_and_grad(loss))(delta, base, tokens)
  mesh = sharding.make_mesh(2, 2, 2)
  where = lambda specs: sharding.shardings(specs, mesh)
  with jax.set_mesh(mesh):
    specs = lora.delta_specs(config, settings)
    got = jax.jit(jax.value_and_grad(loss))(
      jax.device_put(delta, where(specs)),
      jax.device_put(base, where(param_specs(config))),
      jax.device_put(tokens, sharding.batch_sharding(mesh)),
    )
  np.testing.assert_allclose(got[0], want[0], rtol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max()),
    jax.device_get(got[1]),
    want[1],
  )


def test_what_cannot_have_a_change():
  with pytest.raises(UserError, match=r"blocks/nothing.*blocks/wq"):
    lora.targets(TINY, LoraConfig(rank=2, targets=("blocks/nothing",)))
  config, _, _ = tiny(num_experts=2, num_experts_per_tok=1)
  assert lora.targets(config, LoraConfig(rank=2)) == ("wq", "wk", "wv", "wo")
  with pytest.raises(UserError, match="blocks/up"):
    lora.targets(config, LoraConfig(rank=2, targets=("blocks/up",)))
  for wrong in (dict(rank=-1), dict(alpha=0.0), dict(targets=())):
    with pytest.raises(UserError, match="lora"):
      LoraConfig(**wrong)
