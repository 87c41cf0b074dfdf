"""The decode loop: a cache changes nothing, rollouts equal teacher forcing."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import logprobs, sharding
from jalign.decode import MixtureParams, generate, geometric, sampler
from jalign.models import from_apply, param_specs
from tests.models.tiny import tiny

LENGTHS = jnp.array([3, 9, 5, 1, 7, 2, 9, 4])
STOPS = (3, 4, 5, 6, 7, 8)


@pytest.fixture(scope="module")
def prompts():
  return jax.random.randint(jax.random.key(1), (8, 9), 0, 64)


def _keys(seed=2, count=8):
  return jax.random.split(jax.random.key(seed), count)


def _generate(model, params, prompts, **changes):
  settings = dict(max_new_tokens=8, stop_ids=STOPS, pad_id=0) | changes
  keys = settings.pop("keys", _keys())
  lengths = settings.pop("lengths", LENGTHS)
  return generate(model, params, prompts, lengths, keys, **settings)


@functools.partial(jax.jit, static_argnums=0)
def _full_logits(model, params, tokens):
  return logprobs.logits(model.head(params), model.forward(params, tokens))


def _last_logits(model, params, sequence, width=20):
  """Logits after a sequence, padded so that all lengths share a program."""
  tokens = np.zeros((1, width), np.int32)
  tokens[0, : len(sequence)] = sequence
  return _full_logits(model, params, jnp.asarray(tokens))[0, len(sequence) - 1]


def test_ragged_prefill_and_steps_equal_the_full_forward(prompts):
  _, model, params = tiny()
  cache, extend = model.init_cache(params, 8, 16), jax.jit(model.extend)
  logits, cache = extend(params, prompts, LENGTHS, cache)
  full = _full_logits(model, params, prompts)
  np.testing.assert_allclose(
    logits, full[jnp.arange(8), LENGTHS - 1], atol=2e-5
  )
  # Ragged chunks: row b appends b % 4 tokens of at most three, or none.
  chunk = jax.random.randint(jax.random.key(5), (8, 3), 0, 64)
  counts = jnp.arange(8) % 4
  logits, cache = extend(params, chunk, counts, cache)
  np.testing.assert_array_equal(cache.lengths, LENGTHS + counts)
  for row in range(8):
    n, k = int(LENGTHS[row]), int(counts[row])
    if k:
      tokens = np.concatenate([prompts[row, :n], chunk[row, :k]])
      want = _last_logits(model, params, tokens)
      np.testing.assert_allclose(logits[row], want, atol=2e-5)


def test_greedy_equals_the_argmax_of_full_forwards(prompts):
  _, model, params = tiny()
  rollout = _generate(
    model, params, prompts, draw=sampler(temperature=0), stop_ids=(63,)
  )
  tokens = np.asarray(rollout.sequences.tokens)
  for row in range(8):
    sequence = list(np.asarray(prompts[row, : LENGTHS[row]]))
    for _ in range(8):
      logits = _last_logits(model, params, sequence)
      sequence.append(int(np.argmax(logits)))
      if sequence[-1] == 63:
        break
    assert rollout.sequences.lengths[row] == len(sequence)
    np.testing.assert_array_equal(tokens[row, : len(sequence)], sequence)


@pytest.mark.parametrize(
  "settings", [{}, dict(temperature=0.7, top_k=20, top_p=0.9)]
)
def test_rollout_log_probs_equal_teacher_forced_ones(prompts, settings):
  _, model, params = tiny()
  draw = sampler(**settings)
  rollout = _generate(model, params, prompts, draw=draw)
  sequences = rollout.sequences
  logits = _full_logits(model, params, sequences.tokens)[:, :-1]
  pick = lambda z: jnp.take_along_axis(
    jax.nn.log_softmax(z), sequences.tokens[:, 1:, None], -1
  )[..., 0]
  mask = sequences.mask[:, 1:]
  own = jnp.where(mask, pick(logits), 0.0)
  np.testing.assert_allclose(rollout.model_logps[0][:, 1:], own, atol=2e-5)
  flat = draw.filter(logits.reshape(-1, 64)).reshape(logits.shape)
  drawn = jnp.where(mask, pick(flat), 0.0)
  np.testing.assert_allclose(rollout.logps[:, 1:], drawn, atol=2e-5)
  assert np.isfinite(rollout.logps).all()
  if settings:
    assert np.abs(drawn - own).max() > 0.1  # they are two different things


def test_layout_of_a_rollout(prompts):
  _, model, params = tiny()
  rollout = _generate(model, params, prompts)
  sequences = rollout.sequences
  tokens, mask = np.asarray(sequences.tokens), np.asarray(sequences.mask)
  ended = 0
  for row in range(8):
    n, end = int(LENGTHS[row]), int(sequences.lengths[row])
    np.testing.assert_array_equal(tokens[row, :n], prompts[row, :n])
    np.testing.assert_array_equal(
      mask[row], (np.arange(17) >= n) & (np.arange(17) < end)
    )
    assert (tokens[row, end:] == 0).all()
    response = tokens[row, n:end]
    assert not np.isin(response[:-1], STOPS).any()
    assert bool(rollout.finished[row]) == bool(np.isin(response[-1], STOPS))
    assert rollout.finished[row] or end - n == 8
    ended += bool(rollout.finished[row])
  assert 0 < ended < 8  # both endings occur


def test_a_row_does_not_depend_on_its_neighbours_or_padding(prompts):
  _, model, params = tiny()
  keys = _keys()
  both = _generate(model, params, prompts, keys=keys)
  wide = jnp.pad(prompts[2:4], [(0, 0), (0, 6)], constant_values=33)
  alone = _generate(model, params, wide, keys=keys[2:4], lengths=LENGTHS[2:4])
  for row in range(2):
    end = int(both.sequences.lengths[row + 2])
    assert end == int(alone.sequences.lengths[row])
    np.testing.assert_array_equal(
      both.sequences.tokens[row + 2, :end], alone.sequences.tokens[row, :end]
    )


def test_other_keys_give_other_samples(prompts):
  _, model, params = tiny()
  a = _generate(model, params, prompts, keys=_keys(2))
  b = _generate(model, params, prompts, keys=_keys(3))
  assert (a.sequences.tokens != b.sequences.tokens).any()


def _counting_model(vocab, calls):
  """A model that always gives token 1, and records each of its runs."""

  def apply(params, tokens):
    jax.debug.callback(lambda: calls.append(1))
    return jnp.zeros((*tokens.shape, vocab)).at[..., 1].set(params)

  return from_apply(lambda key: jnp.float32(50.0), apply)


def test_the_loop_stops_when_every_row_has_ended():
  calls = []
  model = _counting_model(4, calls)
  prompts, lengths = jnp.zeros((2, 3), int), jnp.array([3, 2])
  rollout = generate(
    model,
    jnp.float32(50.0),
    prompts,
    lengths,
    _keys(0, 2),
    max_new_tokens=50,
    stop_ids=(1,),
    draw=sampler(temperature=0),
  )
  jax.effects_barrier()
  assert rollout.finished.all() and len(calls) == 1  # the prefill alone
  np.testing.assert_array_equal(rollout.sequences.lengths, lengths + 1)


def test_sharded_decode_equals_unsharded(prompts):
  config, model, params = tiny()
  want = _generate(model, params, prompts)
  mesh = sharding.make_mesh(2, 2, 2)
  placed = jax.device_put(params, sharding.shardings(param_specs(config), mesh))
  with jax.set_mesh(mesh):
    got = _generate(model, placed, prompts)
  np.testing.assert_array_equal(want.sequences.tokens, got.sequences.tokens)
  np.testing.assert_allclose(want.logps, got.logps, atol=2e-5)
  np.testing.assert_allclose(want.model_logps, got.model_logps, atol=2e-5)


# ------------------------------------------------------------------ mixtures


def _table_model(seed, vocab=3):
  """A bigram table, whose logits depend only on the last token."""
  table = 1.5 * jax.random.normal(jax.random.key(seed), (vocab, vocab))
  return from_apply(lambda key: table, lambda p, tokens: p[tokens]), table


def test_the_mixture_sampler_has_the_exact_law():
  """The frequencies of all 27 responses fit the enumerated mixture."""
  model, policy = _table_model(0)
  _, reference = _table_model(1)
  weight, rows = 0.3, 60_000
  params = MixtureParams(policy, reference, jnp.float32(weight))
  rollout = generate(
    geometric(model, model),
    params,
    jnp.zeros((rows, 1), int),
    jnp.ones(rows, int),
    _keys(7, rows),
    max_new_tokens=3,
    stop_ids=(99,),
  )
  codes = np.asarray(rollout.sequences.tokens[:, 1:]) @ np.array([9, 3, 1])
  counts = np.bincount(codes, minlength=27)

  p, q = (np.exp(np.asarray(x, np.float64)) for x in (policy, reference))
  p, q = p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True)
  step = p ** (1 - weight) * q**weight
  step /= step.sum(-1, keepdims=True)
  law = np.einsum("a,ab,bc->abc", step[0], step, step).reshape(-1)
  chi2 = ((counts - rows * law) ** 2 / (rows * law)).sum()
  assert chi2 < 26 + 5 * np.sqrt(2 * 26)  # 26 degrees of freedom, 5 sigma

  # The check can fail: swapped weights, and a coin flip between the models for
  # each token, are far outside.
  flipped = p**weight * q ** (1 - weight)
  flipped /= flipped.sum(-1, keepdims=True)
  for other in (flipped, (1 - weight) * p + weight * q):
    wrong = np.einsum("a,ab,bc->abc", other[0], other, other).reshape(-1)
    assert ((counts - rows * wrong) ** 2 / (rows * wrong)).sum() > 100
  # The recorded log-prob is the mixture's, too.
  np.testing.assert_allclose(
    rollout.logps.sum(-1), np.log(law)[codes], atol=1e-5
  )


def test_a_mixture_reports_each_model(prompts):
  config, model, params = tiny()
  small = dataclasses.replace(config, num_hidden_layers=1, hidden_size=16)
  from jalign.models import transformer

  reference = transformer(small)
  ref_params = reference.init(jax.random.key(9))
  mixture = geometric(model, reference)
  rollout = _generate(
    mixture, MixtureParams(params, ref_params, jnp.float32(0.4)), prompts
  )
  for part, m, p in ((0, model, params), (1, reference, ref_params)):
    score = jax.jit(functools.partial(logprobs.sequence_logprobs, m))
    np.testing.assert_allclose(
      rollout.model_logps[part].sum(-1),
      score(p, rollout.sequences),
      atol=5e-5,
    )


def test_weight_zero_is_the_policy_and_one_the_reference(prompts):
  _, model, params = tiny()
  other = model.init(jax.random.key(4))
  for weight, alone in ((0.0, params), (1.0, other)):
    mixed = _generate(
      geometric(model, model),
      MixtureParams(params, other, jnp.float32(weight)),
      prompts,
    )
    plain = _generate(model, alone, prompts)
    np.testing.assert_array_equal(
      mixed.sequences.tokens, plain.sequences.tokens
    )


def test_a_schedule_of_weights_compiles_once(prompts):
  _, model, params = tiny()
  traces = []

  def extend(*args):
    traces.append(args[1].shape)
    return model.extend(*args)

  counted = model._replace(extend=extend)
  mixture = geometric(counted, model)
  counts = []
  for weight in (0.1, 0.2, 0.3):
    pair = MixtureParams(params, params, jnp.float32(weight))
    _generate(mixture, pair, prompts, max_new_tokens=2)
    counts.append(len(traces))
  assert counts[0] > 0 and counts == counts[:1] * 3
