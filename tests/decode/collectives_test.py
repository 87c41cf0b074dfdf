"""What devices exchange at a step of decoding, read from compiled programs.

The text doesn't depend on how much XLA optimises (tests/conftest.py).
"""

import jax
import jax.numpy as jnp
import pytest

from jalign import sharding
from jalign.decode import MixtureParams, geometric, sampler
from jalign.decode.generate import _generate
from jalign.decode.row_state import DecodeOptions, Prompts
from jalign.models import param_specs
from jalign.types import NOT_SPLIT, Policy
from tests import programs
from tests.models.tiny import tiny

ROWS, WIDTH, NEW, LAYERS, HIDDEN = 8, 16, 16, 2, 64
# Larger arrays than the hidden states of all rows must stay where they are.
CONFIG = dict(
  num_hidden_layers=LAYERS,
  hidden_size=HIDDEN,
  num_attention_heads=8,
  num_key_value_heads=8,
  intermediate_size=96,
  vocab_size=1024,
)


def _compiled(mesh_shape, mixed=False, settings=None, **changes):
  config, model, params = tiny(**CONFIG)
  mesh = sharding.make_mesh(*mesh_shape)
  place = lambda p: jax.device_put(
    p, sharding.shardings(param_specs(config), mesh)
  )
  params = place(params)
  policy = geometric(model, model) if mixed else model
  if mixed:
    other = place(model.init(jax.random.key(3)))
    params = MixtureParams(params, other, jnp.float32(0.3))
  policy = Policy(*(getattr(policy, name) for name in Policy._fields))
  policy = policy._replace(**changes)
  rows = sharding.batch_sharding(mesh)
  prompts = Prompts(
    jax.device_put(jnp.ones((ROWS, WIDTH), jnp.int32), rows),
    jax.device_put(jnp.full(ROWS, WIDTH), rows),
    jax.device_put(jax.random.split(jax.random.key(0), ROWS), rows),
    jnp.int32(NEW),
  )
  draw = sampler(**(settings or {}))
  static = DecodeOptions(NEW, ((3,),), 0, draw, False, 0)
  with jax.set_mesh(mesh):
    lowered = _generate.lower(
      policy, params, prompts, options=static, samples=1, refill=None
    )
    return lowered.compile().as_text()


def _exchanged(text):
  """(is it in the loop, kind, elements of the largest array) per exchange."""
  return [tuple(exchange[:3]) for exchange in programs.exchanges(text)]


@pytest.mark.parametrize("mixed", [False, True])
def test_a_step_under_tensor_exchanges_hidden_states_alone(mixed):
  """They are [B, D], twice a layer and once for the embedding."""
  exchanges = [x for x in _exchanged(_compiled((1, 1, 8), mixed)) if x[0]]
  models = 2 if mixed else 1
  large = [x for x in exchanges if x[2] > ROWS * 8]
  # XLA may join exchanges of the two models.
  per_model = 2 * LAYERS + 1
  assert per_model <= len(large) <= models * per_model, exchanges
  assert mixed or len(large) == per_model, exchanges
  assert {x[1:] for x in large} == {("all-reduce", ROWS * HIDDEN)}, exchanges
  small = [x for x in exchanges if x[2] <= ROWS * 8]
  assert 3 <= len(small) <= 3 + 3 * models, exchanges


@pytest.mark.parametrize(
  "settings",
  [
    dict(top_k=20, top_p=0.9, min_p=0.01),
    dict(repetition_penalty=1.5, bias={3: 2.0}, forbidden=(4,)),
    dict(temperature=0),
  ],
)
def test_no_sampler_gathers_the_vocabulary(settings):
  exchanges = _exchanged(_compiled((1, 1, 8), settings=settings))
  allowed = ROWS * WIDTH * HIDDEN  # the prefill's hidden states
  assert max(size for _, _, size in exchanges) <= allowed
  assert max(size for loop, _, size in exchanges if loop) <= ROWS * HIDDEN
  gathers = [x for x in exchanges if x[1] == "all-gather"]
  assert all(size <= ROWS * 8 for _, _, size in gathers), gathers


def test_parameters_are_gathered_before_the_loop_and_not_in_it():
  """Parameters split over fsdp are gathered once for a whole response."""
  exchanges = _exchanged(_compiled((2, 2, 2)))
  before = [x for x in exchanges if not x[0] and x[1] == "all-gather"]
  assert max(size for *_, size in before) >= 512 * HIDDEN  # the head's part
  step = [size for loop, _, size in exchanges if loop]
  assert max(step) <= ROWS // 4 * HIDDEN, exchanges


def test_the_check_finds_a_draw_that_is_left_to_the_partitioner():
  wrong = _compiled((1, 1, 8), layout=NOT_SPLIT)
  exchanges = _exchanged(wrong)
  assert max(size for loop, _, size in exchanges if loop) > ROWS * HIDDEN
