"""Arrays of the compiled train step, and exchanges between devices.

The vocabulary is the largest size, so an array with an entry for each of its
tokens is the largest of the program. The text doesn't depend on how much XLA
optimises (tests/conftest.py).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jalign import logprobs, losses, sharding
from jalign.logprobs import counted, tiles
from jalign.logprobs.counted import sizes_of
from jalign.models import param_specs
from jalign.training.objective import make_objective
from jalign.training.state import init_state, state_shardings
from jalign.training.step import make_update
from jalign.types import Head, PairBatch
from tests import programs
from tests.models.tiny import tiny
from tests.training import batches

VOCAB, WIDTH, PAIRS, LENGTH, TILE = 8192, 32, 8, 65, 512
MESH = (2, 2, 2)
TOKENS = 2 * PAIRS // 4 * (LENGTH - 1)  # of a device
PART = VOCAB // 2  # rows of a device's part of the head


def _step(monkeypatch, wrong=None):
  """The compiled text of one DPO update on 2 x 2 x 2 devices.

  Args:
    monkeypatch: pytest's fixture.
    wrong: makes, from the model's head, one that defeats the stream.
  """
  monkeypatch.setattr(tiles, "CPU_TILE_BYTES", 4 * TOKENS * TILE)
  monkeypatch.setattr(counted, "LEAST_FLOP", 0)
  config, model, params = tiny(
    vocab_size=VOCAB,
    num_hidden_layers=1,
    tie_word_embeddings=False,
    remat="none",
  )
  if wrong is not None:
    right = model.head
    model = model._replace(head=lambda p: wrong(right(p)))
  mesh = sharding.make_mesh(*MESH)
  placed = sharding.shardings(param_specs(config), mesh)
  optimizer = optax.sgd(0.1)
  objective = make_objective(
    functools.partial(losses.dpo, beta=0.3), model, batch="pairs"
  )
  shardings = state_shardings(optimizer, params, placed, mesh)
  update = make_update(objective, optimizer, shardings)
  data = PairBatch(batches.sequences(2 * PAIRS, length=LENGTH), jnp.ones(PAIRS))
  with jax.set_mesh(mesh):
    lowered = update.lower(
      init_state(params, optimizer, shardings),
      jax.device_put(data, sharding.batch_sharding(mesh)),
      jax.device_put(params, placed),
    )
    return lowered.compile().as_text()


def _check(text):
  """Checks the claims; an AssertionError names a false one."""
  shapes = programs.shapes(text)
  assert programs.largest(text) <= TOKENS * TILE
  # Neither the head, nor the embedding, nor a gradient of theirs is gathered.
  assert (PART, WIDTH) not in shapes and (VOCAB, WIDTH) not in shapes
  found = programs.exchanges(text)
  vocabulary = {
    (x.kind, x.size, x.loop) for x in found if "shard_map" in x.source
  }
  rows, own = 2 * PAIRS // MESH[0], WIDTH // MESH[1]
  states = rows * LENGTH * own
  expected = {
    # A tile of the head, and of its gradient.
    ("all-gather", TILE * WIDTH, True),
    ("reduce-scatter", TILE * own, True),
    ("all-reduce", PART * own, False),  # the head's gradient, over `data`
    ("all-reduce", 1, False),  # the number of counted tokens
    # The embedding: ids, states and their gradient, and the table's gradient.
    ("all-gather", rows * LENGTH, False),
    ("all-reduce", states, False),
    ("all-to-all", states // MESH[1], False),
  }
  for tokens in sizes_of(TOKENS, PART * WIDTH):
    expected.add(("all-reduce", tokens, False))  # maxima, sums
    # The hidden states' gradient.
    expected.add(("all-reduce", tokens * WIDTH, False))
  assert vocabulary == expected


def test_a_train_step_holds_no_logits_and_exchanges_sums(monkeypatch):
  text = _step(monkeypatch)
  _check(text)
  assert (TOKENS, TILE) in programs.shapes(text)


def _all_logits(head):
  return Head(None, dense=functools.partial(logprobs.logits, head))


def _gathered(head):
  whole = jax.lax.with_sharding_constraint(
    head.weight, jax.sharding.PartitionSpec()
  )
  return head.replace(weight=whole, vocab_axis=None)


@pytest.mark.parametrize("wrong", [_all_logits, _gathered])
def test_the_check_finds_what_it_forbids(monkeypatch, wrong):
  text = _step(monkeypatch, wrong)
  with pytest.raises(AssertionError):
    _check(text)
  least = VOCAB * WIDTH if wrong is _gathered else TOKENS * PART
  assert programs.largest(text) >= least


def test_a_stream_needs_a_tenth_of_the_temporaries_of_logits():
  """The sizes are those of 2048 tokens and a vocabulary of 152k, over 8."""
  rows, columns, width, tile = 256, 18992, 48, 512
  hidden = jax.ShapeDtypeStruct((4, rows // 4, width), jnp.float32)
  weight = jax.ShapeDtypeStruct((columns, width), jnp.float32)
  targets = np.zeros((4, rows // 4), np.int32)

  def streamed(hidden, weight):
    return jnp.sum(
      logprobs.token_logprobs(hidden, Head(weight), targets, tile=tile)
    )

  def whole(hidden, weight):
    z = logprobs.logits(Head(weight), hidden)
    picked = jnp.take_along_axis(z, targets[..., None], -1)[..., 0]
    return jnp.sum(picked - jax.nn.logsumexp(z, -1))

  def temporaries(function):
    run = jax.jit(jax.value_and_grad(function, (0, 1)))
    compiled = run.lower(hidden, weight).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  assert temporaries(whole) >= 4 * rows * columns
  assert temporaries(whole) >= 10 * temporaries(streamed)
