"""Context distillation: the student becomes the teacher that has a context."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jalign import data, losses
from jalign.data.contexts import EncodedContext
from jalign.errors import UserError
from jalign.training.kinds import distributions
from jalign.training.objective import make_objective
from tests.logprobs import oracle
from tests.models.tiny import tiny

SMALL = dict(vocab_size=24, hidden_size=16, num_hidden_layers=1)
ids = lambda *x: np.array(x, np.int32)
CONTEXT = ids(1, 7, 8, 9, 7, 5, 6, 11, 3, 4, 9, 2)


def _example(prompt, response, context=CONTEXT, source="f:1"):
  behind = np.concatenate([context, prompt[1:]]) if len(context) else prompt
  return EncodedContext(prompt, behind, response, source)


EXAMPLES = [
  _example(ids(1, 5, 6), ids(8, 9, 2)),
  _example(ids(1, 4), ids(10, 2)),
  _example(ids(1, 3, 3, 5, 9), ids(12, 13, 14, 15, 2)),
]


def _batch(examples=EXAMPLES, rows=4, length=24, **options):
  lead = data.context_lead(examples)
  return data.collate_contexts(examples, rows, length, lead=lead, **options)


@pytest.fixture(scope="module")
def model():
  _, functions, params = tiny(**SMALL)
  other = jax.tree.map(lambda x: x + 0.05 * jnp.sin(7 * x), params)
  return functions, params, other


def _logits(model, params, row):
  hidden = model.forward(params, row[None])
  return (
    np.asarray(model.head(params).weight, np.float64)
    @ np.asarray(hidden[0], np.float64).T
  )


def _by_hand(model, params, ref):
  """Sum of KL(ref behind the context || params) over all response tokens."""
  total = []
  for e in EXAMPLES:
    own = np.concatenate([e.prompt, e.response])
    behind = np.concatenate([e.context, e.response])
    z, r = _logits(model, params, own).T, _logits(model, ref, behind).T
    n = len(e.response)
    z, r = z[-n - 1 : -1], r[-n - 1 : -1]
    total.append(oracle.kl(r, z).sum())
  return np.array(total)


def test_the_rows_score_the_same_tokens():
  batch = _batch()
  assert batch.sequences.tokens.shape == (4, 16)  # 11 more: 8 columns fewer
  assert batch.context.tokens.shape == (4, 24)
  for own, behind in zip(
    *(
      [t[m].tolist() for t, m in zip(s.tokens, s.mask)]
      for s in (batch.sequences, batch.context)
    )
  ):
    assert own == behind
  np.testing.assert_array_equal(batch.weights, [1, 1, 1, 0])
  assert data.context_lead([EXAMPLES[0], _example(ids(1), ids(2), ids())]) == 0


def test_values_equal_float64_and_packing_changes_nothing(model):
  functions, params, ref = model
  objective = make_objective(losses.context_distillation, functions)
  assert objective.needs_reference
  want = _by_hand(functions, params, ref)
  run = jax.jit(lambda b: objective.sums(params, b, ref))
  total, (count, metrics) = run(_batch())
  np.testing.assert_allclose(total, want.sum(), rtol=1e-5)
  assert count == 10  # tokens
  np.testing.assert_allclose(
    np.divide(*metrics["context_kl_nats_per_token"]), want.sum() / 10, rtol=1e-5
  )
  packing = data.Packing(width=48, groups=2)
  packed = packing.collate(data.collate_contexts)(EXAMPLES, 4, 24, lead=11)
  assert packed.context.packed is not None
  np.testing.assert_allclose(run(packed)[0], total, rtol=1e-5)


def test_top_classes_are_a_bound_and_all_classes_are_exact(model):
  functions, params, ref = model
  batch = _batch()
  totals = []
  for k in (1, 4, 24):
    loss = functools.partial(losses.top_k_distillation, k=k)
    objective = make_objective(loss, functions)
    totals.append(
      float(jax.jit(lambda b, o=objective: o.sums(params, b, ref)[0])(batch))
    )
  want = _by_hand(functions, params, ref).sum()
  assert 0 < totals[0] < totals[1] < want
  np.testing.assert_allclose(totals[2], want, rtol=1e-5)


@pytest.mark.parametrize("name", ["context_distillation", "top_k_distillation"])
def test_an_empty_context_teaches_nothing(model, name):
  """Student and teacher start equal: the loss and its gradient are 0."""
  functions, params, _ = model
  plain = [_example(e.prompt, e.response, ids()) for e in EXAMPLES]
  objective = make_objective(getattr(losses, name), functions)
  run = jax.jit(jax.value_and_grad(objective.sums, has_aux=True))
  (total, _), grads = run(params, _batch(plain), params)
  assert abs(total) < 1e-6
  assert max(float(jnp.max(jnp.abs(g))) for g in jax.tree.leaves(grads)) < 1e-6
  (total, _), grads = run(params, _batch(), params)
  assert total > 0.01
  assert optax.tree.norm(grads) > 0.01


def test_the_student_becomes_the_prompted_teacher(model):
  """All prefixes of a small language: KL and distance to the teacher vanish."""
  functions, params, _ = model
  objective = make_objective(losses.context_distillation, functions)
  optimizer = optax.adam(optax.cosine_decay_schedule(0.02, 400))
  batch = _batch()

  @jax.jit
  def train(student):
    def step(carry, _):
      student, state = carry
      (total, (count, _)), grads = jax.value_and_grad(
        objective.sums, has_aux=True
      )(student, batch, params)
      updates, state = optimizer.update(grads, state, student)
      return (optax.apply_updates(student, updates), state), total / count

    return jax.lax.scan(step, (student, optimizer.init(student)), None, 400)

  (student, _), kl = train(params)
  assert kl[0] > 0.05
  assert kl[-1] < 1e-4
  gap = _by_hand(functions, student, params).sum() / 10
  assert gap < 1e-4


def test_states_are_moved_to_the_tokens_places():
  states = jnp.arange(2 * 6.0).reshape(2, 6, 1)
  context = jnp.array([[0, 0, 0, 1, 1, 0], [0, 1, 0, 1, 1, 0]], bool)
  mask = jnp.array([[0, 1, 1, 0], [1, 0, 1, 1]], bool)
  moved = distributions.aligned(states, context, mask)[..., 0]
  np.testing.assert_array_equal(moved[mask], [3, 4, 7, 9, 10])


def test_a_reference_is_needed(model):
  functions, params, _ = model
  objective = make_objective(losses.context_distillation, functions)
  with pytest.raises(UserError, match="takes context_kl, mask, and neither"):
    objective.sums(params, _batch())
