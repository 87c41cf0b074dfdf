"""Closed-form slopes against autodiff."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import losses
from jalign.losses.coefficients import more
from tests.oracles import inputs, pairwise

NAMES = sorted(
  name
  for name, function in vars(more).items()
  if inspect.isfunction(function)
  and function.__module__ == more.__name__
  and not name.startswith("_")
)


def test_all_are_here():
  assert NAMES == [
    "aot_paired",
    "aot_unpaired",
    "bco",
    "flex_dpo",
    "ld_dpo",
    "mm_dpo",
    "modpo",
    "rationale_dpo",
    "rationale_dpo_logsigmoid",
    "selm",
    "tpo",
    "tpo_l",
    "wpo",
  ]


@pytest.mark.parametrize("name", NAMES)
def test_slopes_are_those_of_the_loss(name):
  slopes, loss = getattr(more, name), losses.CATALOGUE[name].function
  assert losses.array_parameters(slopes) == losses.array_parameters(loss)
  assert losses.hyperparameters(slopes) == losses.hyperparameters(loss)
  given = inputs.ordinary(losses.array_parameters(loss), "pairs", rows=32)
  defaults = losses.hyperparameters(loss)
  other = getattr(pairwise, name + "_settings", None)
  for settings in (
    defaults,
    other or {k: 1.3 * v + 0.05 for k, v in defaults.items()},
  ):
    with jax.enable_x64(True):
      arrays = {k: jnp.asarray(x) for k, x in given.items()}

      def total(c, r):
        pair = {"chosen_logps": c, "rejected_logps": r}
        return loss(**(arrays | pair), **settings).sum()  # noqa: B023

      up, down = jax.grad(total, (0, 1))(
        arrays["chosen_logps"], arrays["rejected_logps"]
      )
      d_w, d_l = slopes(**arrays, **settings)
      assert d_w.dtype == d_l.dtype == jnp.float64
    np.testing.assert_allclose(d_w, -up, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(d_l, down, rtol=1e-9, atol=1e-12)
    assert (np.abs(d_w) > 0).any() and (np.abs(d_l) > 0).any()


@pytest.mark.parametrize("name", NAMES)
def test_slopes_are_finite_at_extreme_log_probs(name):
  slopes = getattr(more, name)
  given = inputs.extreme(losses.array_parameters(slopes), "pairs")
  arrays = {
    k: jnp.asarray(x, bool if x.dtype == bool else jnp.bfloat16)
    for k, x in given.items()
  }
  for d in slopes(**arrays):
    assert d.shape == (256,) and d.dtype == jnp.float32
    assert np.isfinite(d).all()
