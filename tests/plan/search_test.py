"""The search finds what enumeration finds, and proposes what can be."""

import functools
import itertools

import jax
import numpy as np
import pytest

from jalign import sharding
from jalign.models import ModelConfig, param_specs
from jalign.plan import search
from jalign.plan.chips import Chip
from jalign.plan.search import Phase
from jalign.plan.workload import Rollout, Score, Update

MODEL = ModelConfig(
  512, 128, 256, 4, 8, 4, tie_word_embeddings=False, dtype="bfloat16"
)


def _chip(flops=1e12, memory=1e9, bandwidth=1e11, links=1e10):
  return Chip("small", "tpu", "small", flops, memory, memory, bandwidth, links)


def _phases(rows=32, prompts=16, apart=True):
  return [
    Phase("a: score", Score(rows, 64), 1, rows, apart),
    Phase("a: rollout", Rollout(prompts, 2, 32, 32), 1, prompts, apart),
    Phase("a: update", Update(rows, 64, reference=True), 2, rows // 2),
  ]


def _enumerated(phases, chip, devices):
  """All combinations of a mesh and a layout of each phase that can be."""
  on = functools.cache(
    lambda i, *where: search.on(MODEL, phases, phases[i], *where, chip)
  )
  allowed = functools.cache(
    lambda i, sizes, layout: (
      layout in search.layouts(phases[i], sizes)
      and not search.undivided(MODEL, [phases[i]], layout)
    )
  )
  every = []
  for sizes in search.meshes(devices):
    own = [
      list(search.meshes(devices)) if phase.apart else [sizes]
      for phase in phases
    ]
    for layouts in itertools.product(*own):
      kept = [allowed(i, sizes, layout) for i, layout in enumerate(layouts)]
      if not all(kept):
        continue
      choices = tuple(on(i, sizes, layout) for i, layout in enumerate(layouts))
      candidate = search.Candidate(sizes, choices)
      if candidate.needs <= chip.usable:
        every.append(candidate)
  return every


@pytest.mark.parametrize(
  "chip",
  [
    _chip(),
    _chip(links=1e8),
    _chip(links=1e13, bandwidth=1e9),
    _chip(memory=7e6),
    _chip(memory=6.5e6, links=1e8),
  ],
)
def test_the_search_finds_what_enumeration_finds(chip):
  phases = _phases()
  found = search.search(MODEL, phases, chip, 8)
  every = _enumerated(phases, chip, 8)
  assert found.fitting
  assert {c.sizes for c in every} == {c.sizes for c in found.fitting}
  for candidate in found.fitting:
    same = [c for c in every if c.sizes == candidate.sizes]
    assert min(c.key for c in same) == pytest.approx(candidate.key)
  assert found.fitting[0].key == pytest.approx(min(c.key for c in every))
  tried = [c.sizes for c in [*found.fitting, *found.large]]
  assert sorted([*tried, *found.undivided]) == sorted(search.meshes(8))


def test_nothing_is_proposed_that_does_not_divide_or_fit():
  found = search.search(MODEL, _phases(rows=8, prompts=4), _chip(), 16)
  for candidate in found.fitting:
    for choice in candidate.choices:
      data, fsdp, tensor = choice.sizes
      assert choice.phase.rows % (data * fsdp) == 0
      assert MODEL.num_key_value_heads % tensor == 0
  assert "'kv_heads' has size 4" in found.undivided[2, 1, 8]
  assert "a: update: 16 devices" in found.undivided[1, 16, 1]
  none = search.search(MODEL, _phases(), _chip(memory=1e5), 8)
  assert not none.fitting
  assert none.large[0].needs == min(c.needs for c in none.large)


def test_a_rollout_of_few_rows_takes_a_larger_tensor_axis_where_links_allow():
  phases = _phases()
  fast = search.search(MODEL, phases, _chip(links=1e15, bandwidth=1e9), 8)
  rollout = next(
    c for c in fast.fitting[0].choices if isinstance(c.phase.work, Rollout)
  )
  assert rollout.sizes[2] == 4  # weights are read by a quarter
  assert rollout.moved > 0 or fast.fitting[0].sizes[2] == 4
  slow = search.search(MODEL, phases, _chip(links=1e6), 8)
  assert all(c.sizes[2] == 1 for c in slow.fitting[0].choices)


@pytest.mark.parametrize(
  ("sizes", "own"),
  [((1, 8, 1), (1, 2, 4)), ((1, 2, 4), (1, 4, 2)), ((2, 2, 2), (2, 2, 2))],
)
def test_a_device_receives_what_it_lacks(sizes, own):
  """By the indices of the shards that jax places."""
  rules = tuple((k, v) for k, v in MODEL.rules if k != "embed")
  here, there = (sharding.make_mesh(*s) for s in (sizes, own))
  a = sharding.by_path(param_specs(MODEL))
  lacking = dict.fromkeys(jax.devices(), 0)
  for spec in a.values():
    one, two = (
      sharding.shardings({"x": spec}, mesh, r)["x"].devices_indices_map(
        spec.shape
      )
      for mesh, r in ((here, MODEL.rules), (there, rules))
    )
    for device in jax.devices():
      has, wants = (np.zeros(spec.shape, bool) for _ in range(2))
      has[one[device]] = True
      wants[two[device]] = True
      lacking[device] += 2 * int((wants & ~has).sum())
  found = search.received(MODEL, sizes, own)
  assert found == max(lacking.values())
