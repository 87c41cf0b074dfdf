"""Stop sequences of several tokens, indicators of rollouts, buckets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import decode
from jalign.decode import bucket, generate, sampler
from jalign.errors import UserError
from jalign.models import from_apply
from tests.models.tiny import tiny


def _script(text):
  """A model that gives the tokens of a script, whatever it reads."""
  script = jnp.asarray(text)

  def apply(params, tokens):
    following = script[jnp.arange(tokens.shape[1])]
    logits = params * jax.nn.one_hot(following, 10)
    return jnp.broadcast_to(logits, (*tokens.shape, 10))

  return from_apply(lambda key: jnp.float32(50.0), apply)


def _says(text, stop_ids, new=8, prompt=(1, 2), **changes):
  """The response's tokens under a script; text[i] follows column i."""
  rollout = generate(
    _script(text),
    jnp.float32(50.0),
    jnp.asarray([prompt]),
    jnp.array([len(prompt)]),
    jax.random.split(jax.random.key(0), 1),
    max_new_tokens=new,
    stop_ids=stop_ids,
    **changes,
  )
  row = np.asarray(rollout.sequences.tokens)[0]
  said = row[len(prompt) : int(rollout.sequences.lengths[0])].tolist()
  return said, bool(rollout.finished[0])


SCRIPT = [2, 5, 6, 5, 6, 7, 3, 4, 9, 9]  # the response is 5 6 5 6 7 3 4 9


@pytest.mark.parametrize("slots", [None, 1])
@pytest.mark.parametrize(
  "stop_ids, said, finished",
  [
    (((5, 6, 7),), [5, 6, 5, 6, 7], True),  # after a false start
    (((6, 5),), [5, 6, 5], True),
    (((6, 7), (5, 6, 5)), [5, 6, 5], True),  # the first to be complete
    ((3, (5, 7)), [5, 6, 5, 6, 7, 3], True),
    (((2, 5),), [5, 6, 5, 6, 7, 3, 4, 9], False),  # 2 is of the prompt
    (((4, 9),), [5, 6, 5, 6, 7, 3, 4, 9], True),  # on the last column
    (((4, 9, 9),), [5, 6, 5, 6, 7, 3, 4, 9], False),
    ((), [5, 6, 5, 6, 7, 3, 4, 9], False),
  ],
)
def test_stop_sequences(slots, stop_ids, said, finished):
  assert _says(SCRIPT, stop_ids, slots=slots) == (said, finished)


def test_an_empty_stop_sequence_is_refused():
  with pytest.raises(UserError, match="stop_ids"):
    _says(SCRIPT, ((),))


def test_forbidden_tokens_and_bias_act_in_the_loop():
  draw = sampler(temperature=0, forbidden=(5,), bias={8: 61.0, 4: 10.0})
  assert _says(SCRIPT, (), draw=draw)[0] == [8] * 8
  draw = sampler(temperature=0, forbidden=(5, 8), bias={4: 49.0})
  assert _says(SCRIPT, (), draw=draw)[0] == [4, 6, 4, 6, 7, 3, 4, 9]


def test_repetition_penalty_counts_prompt_and_response():
  """Each token occurs once, and the prompt's 1 and 2 not again."""
  table = jnp.linspace(1.0, 0.1, 10)
  model = from_apply(
    lambda key: table,
    lambda p, tokens: jnp.broadcast_to(p, (*tokens.shape, 10)),
  )
  rollout = generate(
    model,
    table,
    jnp.array([[1, 2, 7], [2, 9, 0]]),
    jnp.array([2, 1]),  # 7, 9 and 0 are padding
    jax.random.split(jax.random.key(0), 2),
    max_new_tokens=8,
    stop_ids=(),
    draw=sampler(temperature=0, repetition_penalty=100.0),
  )
  tokens = np.asarray(rollout.sequences.tokens)
  np.testing.assert_array_equal(tokens[0, 2:10], [0, 3, 4, 5, 6, 7, 8, 9])
  np.testing.assert_array_equal(tokens[1, 1:9], [0, 1, 3, 4, 5, 6, 7, 8])


def test_indicators_are_of_the_policy_itself():
  """Entropy and top-k mass are those before temperature and truncation."""
  _, model, params = tiny()
  prompts = jax.random.randint(jax.random.key(1), (4, 5), 0, 64)
  rollout = generate(
    model,
    params,
    prompts,
    jnp.full(4, 5),
    jax.random.split(jax.random.key(2), 4),
    max_new_tokens=6,
    stop_ids=(3,),
    draw=sampler(temperature=0.5, top_k=10),
    entropy=True,
    top_k_mass=7,
  )
  from jalign import logprobs

  hidden = model.forward(params, rollout.sequences.tokens)
  z = np.asarray(logprobs.logits(model.head(params), hidden), np.float64)
  p = np.exp(z - z.max(-1, keepdims=True))
  p /= p.sum(-1, keepdims=True)
  mask = np.asarray(rollout.sequences.mask)
  shift = lambda x: np.where(mask, np.pad(x, [(0, 0), (1, 0)])[:, :-1], 0.0)
  entropy = shift(-(p * np.log(p)).sum(-1))
  mass = shift(np.sort(p, -1)[..., -7:].sum(-1))
  np.testing.assert_allclose(rollout.entropy, entropy, atol=2e-5)
  np.testing.assert_allclose(rollout.top_k_mass, mass, atol=2e-5)


def test_buckets_are_few_and_close():
  sizes = [bucket(n) for n in range(1, 5000)]
  assert sizes[:16] == list(range(1, 17))
  assert all(n <= size <= 1.25 * n for n, size in enumerate(sizes, 1))
  assert sizes == sorted(sizes) and len(set(sizes)) < 52
  assert all(bucket(size) == size for size in sizes)


def test_lengths_of_one_bucket_share_a_program():
  """Widths 33 to 40 with 17 to 20 new tokens share one reported program."""
  _, model, params = tiny()
  before = decode.compiled()
  for width, new in ((33, 17), (36, 20), (40, 19)):
    prompts = jax.random.randint(jax.random.key(1), (3, width), 0, 64)
    keys = jax.random.split(jax.random.key(2), 3)
    rollout = generate(
      model,
      params,
      prompts,
      jnp.array([width, 4, 9]),
      keys,
      max_new_tokens=new,
      stop_ids=(),
    )
    assert rollout.sequences.tokens.shape == (3, width + new)
    assert rollout.model_logps.shape == (1, 3, width + new)
    np.testing.assert_array_equal(
      rollout.sequences.lengths, rollout.prompt_lengths + new
    )
    assert not rollout.finished.any()
  name = "3 rows of 40 + 20 tokens"
  assert decode.compiled()[name] == before.get(name, 0) + 1


def test_a_batch_as_large_as_its_columns_is_cut_right():
  """60 rows of 33 + 17 columns are decoded in a bucket of 40 + 20."""
  _, model, params = tiny()
  rollout = generate(
    model,
    params,
    jnp.ones((60, 33), int),
    jnp.full(60, 33),
    jax.random.split(jax.random.key(2), 60),
    max_new_tokens=17,
    stop_ids=(),
  )
  assert rollout.finished.shape == rollout.prompt_lengths.shape == (60,)
  assert rollout.sequences.lengths.shape == (60,)
  assert rollout.logps.shape == (60, 50)
