"""Statistics of one pass over the vocabulary equal float64 definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import logprobs
from jalign.errors import UserError
from jalign.logprobs import dense
from jalign.types import Head
from tests.logprobs import oracle
from tests.models.tiny import tiny
from tests.programs import traced

B, T, D, V = 2, 3, 5, 11
WANT = ("entropy", "lse", "mean_logit", "top")
COOL = (0.7, 2.5)  # a temperature for each row
FORMS = {
  "plain": {},
  "capped": dict(scale=0.5, cap=2.0),
  "cooled": dict(temperature=0.6),
  "all": dict(scale=0.5, cap=2.0, temperature=COOL),
}


@pytest.fixture(scope="module")
def arrays():
  keys = jax.random.split(jax.random.key(0), 3)
  return (
    jax.random.normal(keys[0], (B, T, D)),
    jax.random.normal(keys[1], (V, D)),
    jax.random.randint(keys[2], (B, T), 0, V),
  )


def _cotangents(name):
  """[B, T] weights of a statistic in the scalar function below."""
  names = ("logps", "entropy", "lse", "mean_logit")
  return np.random.default_rng(names.index(name)).normal(size=(B, T))


def _scalar(values):
  """A scalar of all differentiable statistics; for lse it is a z-loss."""
  total = 0.0
  for name in ("logps", "entropy", "lse", "mean_logit"):
    if values.get(name) is not None:
      x = values[name] if name == "logps" else values[name] ** 2
      total = total + (_cotangents(name) * x).sum()
  return total


def _names(want):
  return ("logps", *(name for name in want if name != "top"))


def _head(weight, form):
  return Head(weight, scale=form.get("scale", 1.0), soft_cap=form.get("cap"))


def _run(arrays, form, want, tile, jit=True):
  """(statistics, gradients), with a traced temperature."""
  hidden, weight, targets = arrays

  def function(hidden, weight, temperature):
    statistics = logprobs.token_statistics(
      hidden,
      _head(weight, form),
      targets,
      want=want,
      tile=tile,
      temperature=temperature,
    )
    return _scalar(statistics._asdict()), statistics

  run = jax.value_and_grad(function, (0, 1, 2), has_aux=True)
  run = jax.jit(run) if jit else run
  temperature = jnp.asarray(form.get("temperature", 1.0))
  (_, statistics), grads = run(hidden, weight, temperature)
  return statistics, grads


@pytest.mark.parametrize(
  "want, tile, form",
  [
    (WANT, 4, "all"),  # the last tile is smaller
    (WANT, 11, "plain"),
    (WANT, 1, "cooled"),
    (WANT, 5, "capped"),
    ((), 4, "all"),
    (("entropy",), 4, "cooled"),
    (("lse",), 4, "capped"),
    (("mean_logit",), 4, "all"),
    (("top",), 3, "all"),
  ],
)
def test_values_and_gradients_equal_float64(arrays, want, tile, form):
  hidden, weight, targets = arrays
  statistics, grads = _run(arrays, FORMS[form], want, tile)
  z = oracle.logits(hidden, weight, **FORMS[form])
  expected = oracle.statistics(z, targets)
  names = _names(want)
  for name in (*names, *(("top_logp",) if "top" in want else ())):
    np.testing.assert_allclose(
      getattr(statistics, name), expected[name], atol=5e-6, err_msg=name
    )
  if "top" in want:
    np.testing.assert_array_equal(statistics.top_token, expected["top_token"])
  given = {k for k, x in statistics._asdict().items() if x is not None}
  asked = {"top_logp", "top_token"} if "top" in want else set()
  assert given == {*names, *asked}

  def scalar(hidden, weight):
    z = oracle.logits(hidden, weight, **FORMS[form])
    statistics = oracle.statistics(z, targets)
    return _scalar({name: statistics[name] for name in names})

  for got, exact in zip(grads, oracle.gradient(scalar, hidden, weight)):
    np.testing.assert_allclose(got, exact, atol=5e-5)
  assert not np.any(grads[2])  # the temperature is a constant


def test_without_jit_all_is_the_same(arrays):
  eager = _run(arrays, FORMS["all"], WANT, 4, jit=False)
  jitted = _run(arrays, FORMS["all"], WANT, 4)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), eager, jitted
  )


def test_a_number_and_a_temperature_for_each_row_are_one(arrays):
  hidden, weight, targets = arrays
  run = lambda t: logprobs.token_logprobs(
    hidden, Head(weight), targets, temperature=t, tile=4
  )
  np.testing.assert_array_equal(run(0.5), run(jnp.full(B, 0.5)))
  np.testing.assert_array_equal(run(1), run(jnp.float32(1.0)))
  with pytest.raises(AssertionError):
    run(jnp.ones(B + 1))


def test_a_schedule_of_temperatures_compiles_once(arrays):
  hidden, weight, targets = arrays
  function, times = traced(
    lambda t: logprobs.token_logprobs(
      hidden, Head(weight), targets, temperature=t
    )
  )
  run = jax.jit(function)
  for t in (0.5, 1.0, 2.0):
    z = oracle.logits(hidden, weight, temperature=t)
    want = oracle.statistics(z, targets)["logps"]
    np.testing.assert_allclose(run(t), want, atol=5e-6)
  assert len(times) == 1


def test_the_first_of_equal_tokens_is_the_top(arrays):
  """Equal tokens in the same tile, and in different tiles."""
  hidden, weight, targets = arrays
  weight = jnp.concatenate([weight, weight, weight])
  for tile in (4, 33):
    statistics = logprobs.token_statistics(
      hidden, Head(weight), targets, want=("top",), tile=tile
    )
    z = oracle.logits(hidden, weight[:V])
    np.testing.assert_array_equal(statistics.top_token, z.argmax(-1))


def test_the_top_is_a_constant(arrays):
  hidden, weight, targets = arrays
  for head in (Head(weight), Head(None, dense=lambda h: h @ weight.T)):
    grad = jax.grad(
      lambda h, head=head: jnp.sum(
        logprobs.token_statistics(h, head, targets, want=("top",)).top_logp
      )
    )(hidden)
    assert not np.any(grad)


def test_an_unknown_statistic_is_refused(arrays):
  hidden, weight, targets = arrays
  with pytest.raises(UserError, match="entropie"):
    logprobs.token_statistics(hidden, Head(weight), targets, want=("entropie",))


@pytest.mark.parametrize("form", ["cooled", "all"])
def test_a_dense_head_by_chunks_of_tokens(arrays, form, monkeypatch):
  """Three tokens in chunks of two, so that the last chunk is padded."""
  hidden, weight, targets = arrays
  form = FORMS[form]
  monkeypatch.setattr(dense, "TILE_BYTES", 4 * V * B * 2)

  def function(hidden, weight):
    head = Head(None, dense=lambda h: logprobs.logits(_head(weight, form), h))
    statistics = logprobs.token_statistics(
      hidden,
      head,
      targets,
      want=WANT,
      temperature=jnp.asarray(form["temperature"]),
    )
    return _scalar(statistics._asdict()), statistics

  (_, statistics), grads = jax.jit(
    jax.value_and_grad(function, (0, 1), has_aux=True)
  )(hidden, weight)
  want = _run(arrays, form, WANT, 4)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5),
    (statistics, grads),
    (want[0], want[1][:2]),
  )


def test_a_dense_head_may_exclude_tokens(arrays):
  """Logits of -inf count as 0 log 0 = 0, in values and in gradients."""
  hidden, weight, targets = arrays
  cut = jnp.where(jnp.arange(V) < V - 2, 0.0, -jnp.inf)
  targets = targets % (V - 2)

  def function(h, head):
    statistics = logprobs.token_statistics(
      h, head, targets, want=("entropy", "top")
    )
    return _scalar(statistics._asdict()), statistics

  run = jax.value_and_grad(function, has_aux=True)
  got = run(hidden, Head(None, dense=lambda h: h @ weight.T + cut))
  want = run(hidden, Head(weight[: V - 2]))
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5), got, want
  )


def test_bfloat16_rounds_inputs_and_products_but_no_sum(arrays):
  """Values are those of rounded inputs; gradients agree to 8 bits."""
  hidden, weight, targets = arrays
  low = hidden.astype(jnp.bfloat16), weight.astype(jnp.bfloat16)
  rounded = [np.asarray(x, np.float64) for x in low]
  z = oracle.logits(*rounded, temperature=COOL)
  expected = oracle.statistics(z, targets)

  def scalar(hidden, weight):
    z = oracle.logits(hidden, weight, temperature=COOL)
    statistics = oracle.statistics(z, targets)
    return _scalar({name: statistics[name] for name in _names(WANT)})

  exact = oracle.gradient(scalar, *rounded)
  form = dict(temperature=COOL)
  for states in (low, (low[0], low[1].astype(jnp.float32))):
    statistics, grads = _run((*states, targets), form, WANT, 4)
    for name in (*_names(WANT), "top_logp"):
      assert getattr(statistics, name).dtype == jnp.float32
      np.testing.assert_allclose(
        getattr(statistics, name), expected[name], atol=5e-6, err_msg=name
      )
    for got, x, want in zip(grads, states, exact):
      assert got.dtype == x.dtype
      error = np.asarray(got, np.float64) - want
      assert np.linalg.norm(error) < 2**-8 * np.linalg.norm(want)


def test_a_tied_table_gets_both_gradients():
  """One as the inputs' table, and one as the outputs' head."""
  _, model, params = tiny(
    tie_word_embeddings=True, num_hidden_layers=1, remat="none"
  )
  tokens = jax.random.randint(jax.random.key(1), (2, 6), 0, 64)

  def streamed(params):
    hidden = model.forward(params, tokens)[:, :-1]
    statistics = logprobs.token_statistics(
      hidden, model.head(params), tokens[:, 1:], want=("lse",), tile=24
    )
    return jnp.sum(statistics.logps) + 0.1 * jnp.sum(statistics.lse**2)

  def whole(params):
    hidden = model.forward(params, tokens)[:, :-1]
    z = logprobs.logits(model.head(params), hidden)
    lse = jax.nn.logsumexp(z, -1)
    picked = jnp.take_along_axis(z, tokens[:, 1:, None], -1)[..., 0]
    return jnp.sum(picked - lse) + 0.1 * jnp.sum(lse**2)

  got = jax.jit(jax.value_and_grad(streamed))(params)
  want = jax.jit(jax.value_and_grad(whole))(params)
  assert np.any(got[1]["embed"])
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=2e-4),
    got,
    want,
  )
