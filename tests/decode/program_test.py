"""Arrays that the compiled decode loop moves at every step, from its text.

The text doesn't depend on how much XLA optimises (tests/conftest.py).
"""

import math
import os
import re

import jax
import jax.numpy as jnp
import pytest

from jalign.decode import generate
from jalign.types import Policy
from tests.models.tiny import tiny

ROWS, WIDTH, NEW = 2, 9, 20
# Weights and caches are larger (keys 1,856, the smallest matrix 2,048), and
# arrays that a step computes are smaller (blocks of the sampler 512).
LARGE = 1500
SIZES = dict(hidden_size=64, head_dim=16, num_hidden_layers=1)
_COMPUTATION = re.compile(r"^(?:ENTRY )?%(\S+) \(.*\{$")
_INSTRUCTION = re.compile(r"^  (ROOT )?%\S+ = (\(.*?\)|\S+) ([a-z][\w\-]*)\(")
_CALLED = re.compile(r"(?:calls|body|condition|to_apply)=%([\w.\-]+)")
_BRANCHES = re.compile(r"(?:branch_computations=\{|_computation=)([^}]*?)[},]")
_PASSED_ON = {"parameter", "get-tuple-element", "tuple", "while", "bitcast"}
_IN_PLACE = {"scatter", "dynamic-update-slice"}


def computations(text):
  """Name -> instructions (is the root, type, operation, line)."""
  bodies, current = {}, []
  for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
    if header := _COMPUTATION.match(line):
      current = bodies.setdefault(header[1], [])
    elif match := _INSTRUCTION.match(line):
      current.append((bool(match[1]), match[2], match[3], line))
  return bodies


def elements(kind):
  return max(
    math.prod(int(n) for n in shape.split(",") if n)
    for shape in re.findall(r"\[([\d,]*)\]", kind) or [""]
  )


def moved(text):
  """Operations of the decode loop that write a large array anew.

  The loop is the one that carries the cache. An update in place is an operation
  on the carried array, alone or as the root of a fusion. Within a fusion only
  operations that pick or convert count: the others' results aren't in memory.
  """
  every = computations(text)
  # This is the loop that carries most.
  _, loop = max(
    (kind.count("["), line)
    for instructions in every.values()
    for _, kind, operation, line in instructions
    if operation == "while" and elements(kind) >= LARGE
  )
  todo = [(name, False) for name in _CALLED.findall(loop)]
  seen, moves = set(), []
  while todo:
    name, fused = todo.pop()
    if name in seen:
      continue
    seen.add(name)
    for _, kind, operation, line in every[name]:
      called = _CALLED.findall(line)
      for names in _BRANCHES.findall(line):
        called += re.findall(r"%?([\w.\-]+)", names)
      called = [name for name in called if name in every]
      todo += [(n, fused or operation == "fusion") for n in called]
      if elements(kind) < LARGE or operation in _PASSED_ON | _IN_PLACE:
        continue
      if fused and operation not in ("convert", "slice", "dynamic-slice"):
        continue
      roots = {op for n in called for is_root, _, op, _ in every[n] if is_root}
      if not roots & _IN_PLACE:
        moves.append(f"{operation} {kind}")
  return moves


def program(policy, params):
  prompts = jnp.ones((ROWS, WIDTH), jnp.int32)
  keys = jax.random.split(jax.random.key(0), ROWS)

  def run(params, prompts):
    return generate(
      policy,
      params,
      prompts,
      jnp.full(ROWS, WIDTH),
      keys,
      max_new_tokens=NEW,
      stop_ids=(3,),
    )

  # Old emitters (tests/conftest.py) write to a bfloat16 cache in float32.
  flag = "xla_cpu_use_fusion_emitters"
  options = {flag: True} if flag in os.environ.get("XLA_FLAGS", "") else {}
  return jax.jit(run).lower(params, prompts).compile(options).as_text()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_step_moves_no_cache_and_no_weights(dtype):
  _, model, params = tiny(dtype=dtype, **SIZES)
  assert moved(program(model, params)) == []


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a trait of the CPU")
@pytest.mark.slow
def test_why_a_cache_is_float32_on_the_cpu():
  _, model, params = tiny(dtype="bfloat16", cache_dtype="bfloat16", **SIZES)
  moves = moved(program(model, params))
  assert sum("29" in x for x in moves) >= 2


def _slots_first(model):
  """A model with a cache [B, S, G, E], though attention needs [B, G, S, E]."""
  swap = lambda cache: jax.tree.map(
    lambda x: x.swapaxes(1, 2) if x.ndim == 4 else x, cache
  )

  def init_cache(params, batch, size):
    return swap(model.init_cache(params, batch, size))

  def extend(params, tokens, lengths, cache):
    out, cache = model.extend(params, tokens, lengths, swap(cache))
    return out, swap(cache)

  return Policy(init_cache, extend, model.prepare)


def _selected(model):
  """A model that chooses between old and new caches for rows that ended."""

  def extend(params, tokens, lengths, cache):
    out, new = model.extend(params, tokens, lengths, cache)
    mix = lambda a, b: jnp.where(
      (lengths > 0).reshape(-1, *[1] * (a.ndim - 1)), a, b
    )
    return out, jax.tree.map(mix, new, cache)

  return Policy(model.init_cache, extend, model.prepare)


@pytest.mark.parametrize("wrong", [_slots_first, _selected])
@pytest.mark.slow
def test_a_moved_cache_is_found(wrong):
  _, model, params = tiny(**SIZES)
  moves = moved(program(wrong(model), params))
  assert any("29" in x for x in moves), moves  # slots


def _converted(model):
  """A model that casts weights where they are used."""

  def extend(params, tokens, lengths, cache):
    scale = jnp.where(lengths[0] > 5, 2.0, 1.0)  # so it can't be hoisted
    params = jax.tree.map(lambda x: x * scale.astype(x.dtype), params)
    return model.extend(params, tokens, lengths, cache)

  return Policy(model.init_cache, extend, model.prepare)


def _stacked(model):
  """A model that cuts layers out of a stack [L, ...] at every step."""
  prepare = lambda params, *_: jax.lax.optimization_barrier(params)
  return Policy(model.init_cache, model.extend, prepare)


@pytest.mark.parametrize(
  "wrong", [_converted, pytest.param(_stacked, marks=pytest.mark.slow)]
)
def test_moved_weights_are_found(wrong):
  _, model, params = tiny(**SIZES | dict(num_hidden_layers=2))
  assert len(moved(program(wrong(model), params))) > 2
