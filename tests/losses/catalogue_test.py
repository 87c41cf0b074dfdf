"""Properties that every loss of the catalogue must have.

A new loss needs no change here: it takes a function, its twin in tests/oracles
and a line in CATALOGUE.
"""

import functools
import importlib
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import diagnostics, losses
from jalign.errors import UserError
from jalign.training.kinds import vocabulary
from tests.oracles import inputs

ENTRIES = pytest.mark.parametrize("name", losses.CATALOGUE)
TUNABLE = pytest.mark.parametrize(
  "name",
  [
    n for n, e in losses.CATALOGUE.items() if losses.hyperparameters(e.function)
  ],
)
UNCOUPLED = pytest.mark.parametrize(
  "name", [n for n, e in losses.CATALOGUE.items() if not e.coupled]
)
# Rows of the others don't see each other, so that a few stand for all.
_FIRST = {e.batch: n for n, e in reversed(losses.CATALOGUE.items())}.values()
SHARDED = [
  name
  if entry.coupled or name in _FIRST
  else pytest.param(name, marks=pytest.mark.slow)
  for name, entry in losses.CATALOGUE.items()
]
# Names of log-probs of models that aren't trained start with one of these.
FIXED = ("ref_", "old_", "anchor_", "target_", "aligned_logps")


def _oracle(name, part=""):
  """The twin of a loss: jalign.losses.<family> has tests.oracles.<family>."""
  family = losses.CATALOGUE[name].function.__module__.split(".")[2]
  module = importlib.import_module(f"tests.oracles.{family}")
  return getattr(module, name + part, None)


def _with(part):
  """Parametrises over losses whose twin has a part, or must have it."""
  needed = {"_gradient": lambda e: e.detached}.get(part, lambda e: False)
  return pytest.mark.parametrize(
    "name",
    [n for n, e in losses.CATALOGUE.items() if _oracle(n, part) or needed(e)],
  )


def _names(name):
  return losses.array_parameters(losses.CATALOGUE[name].function)


def _inputs(name, make=inputs.ordinary, **kwargs):
  return make(_names(name), losses.CATALOGUE[name].batch, **kwargs)


def _cast(arrays, dtype):
  """The arrays as jax arrays of a type; lengths and booleans keep theirs."""
  return {
    key: jnp.asarray(x, bool if x.dtype == bool else dtype)
    for key, x in arrays.items()
  }


def _settings(name):
  """Settings of a loss: the defaults, and other values within every range.

  If the rule doesn't give such values, the oracles have `<loss>_settings`.
  """
  defaults = losses.hyperparameters(losses.CATALOGUE[name].function)
  other = _oracle(name, "_settings")
  return [defaults, other or {k: 1.3 * v + 0.05 for k, v in defaults.items()}]


@functools.cache
def _slopes(function):
  """The loss, and gradients of its sum in the real arrays, as one program."""

  def total(real, masks):
    loss = function(**real, **masks)
    return loss.sum(), loss

  return jax.jit(jax.grad(total, has_aux=True))


def _loss_and_gradients(function, arrays):
  """The loss, and the gradient of its sum in each real array."""
  real = {k: v for k, v in arrays.items() if v.dtype != bool}
  masks = {k: v for k, v in arrays.items() if v.dtype == bool}
  gradients, loss = _slopes(function)(real, masks)
  return loss, gradients


def _gradients(function, arrays):
  return _loss_and_gradients(function, arrays)[1]


@ENTRIES
def test_signature_and_entry(name):
  entry = losses.CATALOGUE[name]
  assert set(_names(name)) <= set(vocabulary(entry.batch))
  assert losses.formula_of(entry.function).startswith(("l = ", "l_b = "))
  assert entry.denominator in ("examples", "tokens")
  for parameter in inspect.signature(entry.function).parameters.values():
    if parameter.kind is not parameter.KEYWORD_ONLY:
      assert parameter.default is parameter.empty, parameter
  assert entry.function.__name__ == name


@ENTRIES
def test_has_an_oracle_with_the_papers_defaults(name):
  oracle = _oracle(name)
  assert oracle is not None, f"write {name} in tests/oracles"
  assert losses.hyperparameters(oracle) == losses.hyperparameters(
    losses.CATALOGUE[name].function
  )


@ENTRIES
def test_equals_its_oracle(name):
  function = losses.CATALOGUE[name].function
  arrays = _inputs(name, rows=64)
  every = _settings(name)
  expected = [_oracle(name)(*arrays.values(), **s) for s in every]
  assert np.shape(expected) == (len(every), 64)
  values = jax.jit(lambda x: [function(**x, **s) for s in every])
  single = values(_cast(arrays, jnp.float32))
  np.testing.assert_allclose(single, expected, rtol=1e-5, atol=1e-5)
  with jax.enable_x64(True):
    double = values(_cast(arrays, jnp.float64))
  assert {x.dtype for x in double} == {np.dtype("float64")}
  np.testing.assert_allclose(double, expected, rtol=1e-12, atol=1e-12)


@ENTRIES
def test_shape_and_type_from_half_precision(name):
  function = losses.CATALOGUE[name].function

  def losses_of(arrays):
    with jax.numpy_dtype_promotion("strict"):
      loss = function(**arrays)
    integers = {k: v for k, v in arrays.items() if k.endswith("lengths")}
    integers = arrays | _cast(integers, jnp.int32)
    return loss, function(**_cast(arrays, jnp.float32)), function(**integers)

  # XLA may otherwise leave out a rounding to bfloat16
  compiled = jax.jit(
    losses_of, compiler_options={"xla_allow_excess_precision": False}
  )
  arrays = _cast(_inputs(name), jnp.bfloat16)
  loss, exact, from_integers = compiled(arrays)
  assert loss.shape == (16,) and loss.dtype == jnp.float32
  np.testing.assert_array_equal(loss, exact)  # nothing is computed in bfloat16
  np.testing.assert_array_equal(from_integers, loss)


@ENTRIES
def test_finite_at_extreme_log_probs(name):
  function = losses.CATALOGUE[name].function
  arrays = _cast(_inputs(name, inputs.extreme), jnp.float32)
  loss, gradients = _loss_and_gradients(function, arrays)
  assert np.isfinite(loss).all()
  for key, gradient in gradients.items():
    assert np.isfinite(gradient).all(), key


@pytest.mark.parametrize("name", SHARDED)
def test_sharding_changes_nothing(name):
  function = losses.CATALOGUE[name].function
  mesh = jax.make_mesh(
    (8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
  )
  rows = jax.NamedSharding(mesh, jax.P("data"))
  with jax.enable_x64(True):
    arrays = _cast(_inputs(name), jnp.float64)
    split = jax.device_put(arrays, rows)
    whole, _ = _loss_and_gradients(function, arrays)
    np.testing.assert_allclose(
      jax.jit(function)(**split), whole, rtol=1e-12, atol=1e-12
    )


@UNCOUPLED
def test_examples_do_not_see_each_other(name):
  function = losses.CATALOGUE[name].function
  with jax.enable_x64(True):
    arrays = _cast(_inputs(name), jnp.float64)
    row_loss = lambda row: function(**jax.tree.map(lambda x: x[None], row))[0]
    together, apart = jax.jit(lambda x: (function(**x), jax.vmap(row_loss)(x)))(
      arrays
    )
  np.testing.assert_allclose(apart, together, rtol=1e-12, atol=1e-12)


@ENTRIES
def test_reference_is_a_constant(name):
  function = losses.CATALOGUE[name].function
  gradients = _gradients(function, _cast(_inputs(name, rows=256), jnp.float32))
  for key, gradient in gradients.items():
    if key.startswith(FIXED):
      np.testing.assert_array_equal(gradient, 0)
  assert np.abs(gradients[_names(name)[0]]).sum() > 0


@pytest.mark.parametrize(
  "name", [n for n, e in losses.CATALOGUE.items() if not e.detached]
)
def test_gradient_equals_finite_differences(name):
  function = losses.CATALOGUE[name].function
  with jax.enable_x64(True):
    arrays = _cast(_inputs(name), jnp.float64)
    gradients = _gradients(function, arrays)
    rng = np.random.default_rng(0)
    along = {
      k: jnp.asarray(rng.uniform(0.5, 1, x.shape)) for k, x in arrays.items()
    }
    # A loss that is only rounding errors makes them thousands of times larger.
    steps = {
      key: 1e-5 if key.endswith("errors") else 3e-4
      for key in arrays
      if not key.startswith(FIXED) and not key.endswith("lengths")
      # others are constants
      if key.endswith("logps") or np.any(gradients.get(key, 0))
    }

    def slope_at(arrays, key, row):
      def moved(step):
        there = arrays[key].at[row].add(step * along[key][row])
        return function(**(arrays | {key: there}))

      # Of fourth order, so that the step can be wide. Differences are taken
      # before the sum, so that other rows' large losses cancel exactly.
      step = steps[key]
      up, down, far_up, far_down = jax.vmap(moved)(
        step * jnp.array([1, -1, 2, -2])
      )
      change = 8 * (up - down) - (far_up - far_down)
      return (change / (12 * step)).sum()

    slopes = jax.jit(
      lambda arrays: {
        key: jax.vmap(lambda row, key=key: slope_at(arrays, key, row))(
          jnp.arange(16)
        )
        for key in steps
      }
    )(arrays)
  for key, slope in slopes.items():
    gradient = np.asarray(gradients[key] * along[key])
    gradient = gradient.sum(tuple(range(1, gradient.ndim)))
    np.testing.assert_allclose(gradient, slope, rtol=1e-6, atol=1e-6)


@_with("_gradient")
def test_constants_are_where_the_twin_has_them(name):
  """`<loss>_gradient` gives the gradient in the first array by hand."""
  expected = _oracle(name, "_gradient")
  assert expected is not None, f"write {name}_gradient"
  function = losses.CATALOGUE[name].function
  arrays = _inputs(name)
  for settings in _settings(name):
    with jax.enable_x64(True):
      gradients = _gradients(
        lambda **x: function(**x, **settings),  # noqa: B023
        _cast(arrays, jnp.float64),
      )
    np.testing.assert_allclose(
      gradients[_names(name)[0]],
      expected(*arrays.values(), **settings),
      rtol=1e-9,
      atol=1e-11,
    )


@_with("_coefficients")
def test_pulls_equal_the_coefficients(name):
  coefficients = _oracle(name, "_coefficients")
  function = losses.CATALOGUE[name].function
  arrays = _inputs(name)
  for settings in _settings(name):
    loss = functools.partial(function, **settings)
    with jax.enable_x64(True):
      pulls = diagnostics.pulls_of(loss, _cast(arrays, jnp.float64))
    np.testing.assert_allclose(
      np.stack(pulls, -1),
      coefficients(*arrays.values(), **settings),
      rtol=1e-10,
      atol=1e-12,
    )


@_with("_coefficients")
def test_pulls_are_as_exact_at_extreme_log_probs(name):
  """Single precision gives those of double precision, also in flat parts."""
  function = losses.CATALOGUE[name].function
  arrays = _inputs(name, inputs.extreme)
  single = diagnostics.pulls_of(function, _cast(arrays, jnp.float32))
  with jax.enable_x64(True):
    double = diagnostics.pulls_of(function, _cast(arrays, jnp.float64))
  np.testing.assert_allclose(single, double, rtol=1e-5, atol=1e-6)


@ENTRIES
def test_good_log_probs_lower_the_loss_and_bad_ones_raise_it(name):
  entry = losses.CATALOGUE[name]
  if not entry.monotone or entry.batch not in ("pairs", "sequences"):
    pytest.skip("not claimed")
  arrays = _cast(_inputs(name, rows=256), jnp.float32)
  gradients = _gradients(entry.function, arrays)
  signs = {"chosen_logps": -1, "rejected_logps": 1, "logps": -1}
  for key in signs.keys() & gradients.keys():
    slope = signs[key] * gradients[key]
    assert (slope >= 0).all() and (slope > 0).any(), key


@TUNABLE
def test_hyperparameters_can_be_traced(name):
  function = losses.CATALOGUE[name].function
  arrays = _cast(_inputs(name), jnp.float32)
  first = next(
    k for k, v in losses.hyperparameters(function).items() if np.ndim(v) == 0
  )
  values = np.float32([settings[first] for settings in _settings(name)])
  loss = lambda value: function(**arrays, **{first: value})
  swept, expected = jax.jit(
    lambda traced: (jax.vmap(loss)(traced), [loss(float(v)) for v in values])
  )(values)
  assert swept.shape == (2, 16) and swept.dtype == jnp.float32
  np.testing.assert_allclose(swept, expected, rtol=1e-5, atol=1e-5)
  assert not np.allclose(*swept)


def _signed(function, key):
  """Whether the docstring lets a hyperparameter have either sign."""
  text = inspect.getdoc(function) + "\n\n"
  about = re.search(rf"\n  {key}: (.*?)\n(?=  \w|\n)", text, flags=re.S)[1]
  return "any finite number" in " ".join(about.split())


@TUNABLE
def test_hyperparameters_out_of_range_are_named(name):
  function = losses.CATALOGUE[name].function
  arrays = _cast(_inputs(name), jnp.float32)
  for key in losses.hyperparameters(function):
    signed = _signed(function, key)
    low = "-inf" if signed else "0"
    bad = [float("nan"), "1"]
    if not signed:
      bad += [-1.0, np.float32(-1), np.array(-1.0), -1]
    for value in bad:
      with pytest.raises(UserError, match=rf"^{key} .*in [\[(]{low}, "):
        function(**arrays, **{key: value})


@ENTRIES
def test_shapes_must_agree(name):
  function = losses.CATALOGUE[name].function
  arrays = _cast(_inputs(name), jnp.float32)
  for key in list(arrays)[1:]:
    for wrong in (arrays[key][:1], arrays[key][:, None]):
      with pytest.raises(AssertionError):
        function(**(arrays | {key: wrong}))
