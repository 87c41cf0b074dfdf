"""Loops, collectives and traffic are read from compiled programs."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jalign.plan.collectives import collectives, summed
from jalign.plan.hlo import Module
from jalign.plan.traffic import moved
from jalign.sharding import make_mesh

TRIPS = 5


@pytest.fixture(scope="module")
def mesh():
  return make_mesh(2, 4, 1)


def _text(mesh, function, *arrays):
  """Compiled HLO of a function of arrays split as (shape, spec) say."""
  given = [
    jax.ShapeDtypeStruct(
      shape, dtype, sharding=NamedSharding(mesh, PartitionSpec(*spec))
    )
    for shape, dtype, spec in arrays
  ]
  with jax.set_mesh(mesh):
    return jax.jit(function).lower(*given).compile().as_text()


def _mapped(function, spec, out):
  return jax.shard_map(
    function,
    in_specs=PartitionSpec(*spec),
    out_specs=PartitionSpec(*out),
    check_vma=False,
  )


def test_a_collective_in_a_loop_counts_as_often_as_the_loop_runs(mesh):
  """5 gathers of float32 [32, 16] over 4 devices, 2,048 bytes each."""

  def body(total, _):
    whole = jax.lax.all_gather(total[:8], "fsdp", axis=0, tiled=True)
    return total + jnp.sum(jnp.sin(whole)), None

  def function(x):
    return jax.lax.scan(body, x, length=TRIPS)[0]

  text = _text(
    mesh, _mapped(function, ("fsdp",), ("fsdp",)), ((32, 16), "float32", ())
  )
  module = Module(text)
  row = summed(collectives(module, mesh.size))[0]
  assert (row.kind, row.dtype, row.sites, row.times) == (
    "all-gather",
    "f32",
    1,
    TRIPS,
  )
  assert row.bytes == TRIPS * 32 * 16 * 4
  assert row.sent == TRIPS * 32 * 16 * 4 * 3 / 4  # a ring's last part is there


@pytest.mark.parametrize(
  "kind, sent",
  {
    "all-reduce": 2 * 3 / 4,
    "reduce-scatter": 3 / 4,
    "all-to-all": 3 / 4,
  }.items(),
)
def test_a_ring_sends_each_kind_so_often(mesh, kind, sent):
  def function(x):
    if kind == "all-reduce":
      return jax.lax.psum(x, "fsdp")
    if kind == "reduce-scatter":
      return jax.lax.psum_scatter(x, "fsdp", tiled=True)
    return jax.lax.all_to_all(x, "fsdp", 0, 1, tiled=True)

  text = _text(
    mesh, _mapped(function, (), ("fsdp",)), ((64, 32), "float32", ())
  )
  found = [c for c in collectives(Module(text), 8) if c.kind == kind]
  assert sum(c.bytes for c in found) == 64 * 32 * 4
  assert sum(c.sent for c in found) == 64 * 32 * 4 * sent
  assert {c.devices for c in found} == {4}


def test_a_loop_that_ends_by_data_takes_the_length_that_it_is_given(mesh):
  def function(x):
    turn = lambda x: jnp.sin(jax.lax.psum(x, "fsdp"))
    return jax.lax.while_loop(lambda x: jnp.max(x) > 1e-3, turn, x)

  text = _text(
    mesh, _mapped(function, ("fsdp",), ("fsdp",)), ((32,), "float32", ())
  )
  times = lambda unknown: sum(
    c.times for c in collectives(Module(text, unknown), 8)
  )
  assert times(7) == 7 * times(1) == 7


def test_only_the_heavy_branch_of_a_conditional_counts(mesh):
  def function(x):
    heavy = lambda x: jax.lax.psum(jnp.concatenate([x, -x]), "fsdp")[:8]
    light = lambda x: jax.lax.psum(x, "fsdp")
    return jax.lax.cond(x[0, 0] > 0, light, heavy, x)

  text = _text(mesh, _mapped(function, (), ()), ((8, 256), "float32", ()))
  assert [c.bytes for c in collectives(Module(text), 8)] == [2 * 8 * 256 * 4]


# A TPU's compiler says nowhere how often a loop runs: the bound is in the
# condition, here within a fusion, and the counter begins at 1.
TPU = """
HloModule jit_f

%compared (a: s32[], b: s32[]) -> pred[] {
  %a = s32[]{:T(128)} parameter(0)
  %b = s32[]{:T(128)} parameter(1)
  ROOT %lt = pred[]{:T(512)} compare(%a, %b), direction=LT
}

%cond (p: (s32[], f32[8,128])) -> pred[] {
  %p = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %limit = s32[]{:T(128)} constant(29)
  ROOT %f = pred[]{:T(512)} fusion(%i, %limit), kind=kLoop, calls=%compared
}

%body (q: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %q = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %j = s32[]{:T(128)} get-tuple-element(%q), index=0
  %v = f32[8,128]{1,0:T(8,128)} get-tuple-element(%q), index=1
  %r = f32[8,128]{1,0:S(1)} all-reduce(%v), replica_groups=[2,4]<=[8]
  %w = f32[8,128]{1,0:T(8,128)} negate(%r)
  ROOT %t = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) tuple(%j, %w)
}

ENTRY %main (x0: f32[8,128]) -> f32[8,128] {
  %x0 = f32[8,128]{1,0:T(8,128)} parameter(0)
  %one = s32[]{:T(128)} constant(1)
  %copy = s32[]{:T(128)} copy(%one)
  %start = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) tuple(%copy, %x0)
  %loop = (s32[], f32[8,128]) while(%start), condition=%cond, body=%body
  ROOT %out = f32[8,128]{1,0:T(8,128)} get-tuple-element(%loop), index=1
}
"""


def test_a_loop_of_a_tpu_is_read_from_its_condition():
  found = collectives(Module(TPU), 8)
  assert [(c.kind, c.times, c.devices) for c in found] == [
    ("all-reduce", 28, 4)
  ]


def test_what_a_core_keeps_to_itself_crosses_no_main_memory():
  """The sum lies in S(1): the loop reads %v and writes %w, nothing else."""
  assert moved(Module(TPU))["loop"] == 28 * 2 * 8 * 128 * 4


def test_traffic_of_a_product_is_its_operands_and_its_result(mesh, optimised):
  text = _text(
    mesh,
    functools.partial(jnp.einsum, "nd,df->nf"),
    ((64, 128), "float32", (("data", "fsdp"),)),
    ((128, 32), "float32", ()),
  )
  rows = 64 // 8
  assert sum(moved(Module(text)).values()) == 4 * (
    rows * 128 + 128 * 32 + rows * 32
  )
