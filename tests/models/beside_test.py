"""A step that reads the cache before it writes equals one that writes first."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign.models import attention, beside, cached
from tests.models.tiny import tiny

LENGTHS = jnp.array([5, 1, 9, 3])


def logits(params, model, steps=3):
  """Logits after a prefill, and after each of some steps."""

  @jax.jit
  def run(params):
    tokens = jax.random.randint(jax.random.key(1), (4, 9), 0, 64)
    cache = model.init_cache(params, 4, 16)
    out, cache = model.extend(params, tokens, LENGTHS, cache)
    rows = [out]
    for i in range(steps):
      # The last row has ended.
      counts = jnp.array([1, 1, 1, 0])
      out, cache = model.extend(params, tokens[:, i : i + 1], counts, cache)
      rows.append(out[:3])
    return rows, cache

  return run(params)


@pytest.mark.parametrize(
  "changes, tolerance",
  [
    pytest.param({}, 2e-5, marks=pytest.mark.slow),
    (dict(cache_dtype="int8", attn_logit_softcapping=2.0), 2e-5),
    pytest.param(
      dict(cache_dtype="bfloat16", sliding_window=4),
      2e-2,
      marks=pytest.mark.slow,
    ),
  ],
)
def test_a_step_on_a_tpu_gives_the_same_logits(monkeypatch, changes, tolerance):
  _, model, params = tiny(attention="xla", **changes)
  want, filled = logits(params, model)
  for module in (attention, beside, cached):
    monkeypatch.setattr(module, "platform", lambda: "tpu")
  calls = []
  attend = beside.attend
  monkeypatch.setattr(
    beside, "attend", lambda *x: calls.append(len(x)) or attend(*x)
  )
  got, cache = logits(params, model)
  assert len(calls) == 2 * 3  # layers, and steps
  for a, b in zip(got, want):
    np.testing.assert_allclose(a, b, atol=tolerance)
  assert jnp.abs(want[1][0] - want[0][0]).max() > 0.1  # not all is alike
  for a, b in zip(cache.v, filled.v):
    np.testing.assert_allclose(
      a.astype(jnp.float32), b.astype(jnp.float32), atol=10 * tolerance
    )


def test_elsewhere_and_with_kernels_a_step_writes_first():
  config, _, _ = tiny()
  assert not beside.reads_first(1, config)
