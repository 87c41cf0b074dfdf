"""Counts the products of a traced function, with the lengths of its loops."""

import math

import jax
from jax.extend import core


def count(function, *arguments) -> float:
  """FLOPs of the products of a function; of branches, those of the largest."""
  return _of(jax.make_jaxpr(function)(*arguments).jaxpr)


def _of(jaxpr) -> float:
  total = 0.0
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == "dot_general":
      (contracted, _), _ = eqn.params["dimension_numbers"]
      shape = eqn.invars[0].aval.shape
      inner = math.prod(shape[i] for i in contracted)
      total += 2.0 * inner * math.prod(eqn.outvars[0].aval.shape)
      continue
    if eqn.primitive.name.startswith("ragged_dot"):
      # Of any two of its three arrays' axes, the groups' apart, each product
      # has all: rows, inputs and outputs of the experts.
      sides = {
        size
        for atom in (*eqn.invars[:2], *eqn.outvars)
        for size in atom.aval.shape[-2:]
      }
      assert len(sides) == 3, "sizes of a test's experts have to differ"
      total += 2.0 * math.prod(sides)
      continue
    times = eqn.params["length"] if eqn.primitive.name == "scan" else 1
    inside = [
      _of(sub.jaxpr if isinstance(sub, core.ClosedJaxpr) else sub)
      for value in eqn.params.values()
      for sub in (value if isinstance(value, tuple | list) else (value,))
      if isinstance(sub, core.ClosedJaxpr | core.Jaxpr)
    ]
    if inside:
      total += times * max(inside)
  return total
