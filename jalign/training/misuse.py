"""Errors that name the mistake when a wrong argument is passed.

All checks run while a function is traced, so that a compiled step costs nothing
more.
"""

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from jalign.data.loader import Batch
from jalign.errors import UserError
from jalign.types import Params

# As a pytree, a `Batch` reaches the functions under jit that name the mistake.
# Its data is its leaves, as the pipeline that yields it counts its bytes.
jax.tree_util.register_dataclass(
  Batch, data_fields=["data"], meta_fields=["index", "sources"]
)


def check_record(data: Any) -> None:
  """Raises UserError for a loader's `Batch` in place of the batch in it."""
  if isinstance(data, Batch):
    raise UserError(
      f"this is what a loader yields (batch {data.index}, with its sources),"
      f" around a {type(data.data).__name__}.",
      where="batch",
      remedy="Pass its .data.",
    )


def missing_reference(wanted: Iterable[str]) -> UserError:
  """The error for a loss that needs a reference where none is given."""
  return UserError(
    f"the loss takes {', '.join(wanted)}, and neither reference parameters"
    " nor precomputed log-probs of them are given.",
    where="loss",
    remedy="Pass ref_params: update(state, batch, ref_params) and"
    " evaluate(params, batch, ref_params). In a config: reference='step'; only"
    " sums over responses can be precomputed.",
  )


def check_reference(params: Params, ref_params: Params) -> None:
  """Raises UserError if the reference's architecture isn't the policy's.

  A parameter of one may be several parameters of the other: a low-rank change
  lies beside the weight that it changes.
  """
  ours, theirs = _shapes(params), _shapes(ref_params)
  for path in theirs:
    if path in ours and ours[path] != theirs[path]:
      raise _other(
        f"{_name(path)} has shape {theirs[path]}, the policy's {ours[path]}"
      )
  for a, b, problem in (
    (theirs, ours, "it has {}, which the policy lacks"),
    (ours, theirs, "it lacks {}, which the policy has"),
  ):
    within = {path[:i] for path in b for i in range(len(path) + 1)}
    for path in a:
      prefixes = (path[:i] for i in range(len(path)))
      if path not in within and not any(p in b for p in prefixes):
        raise _other(problem.format(_name(path)))


def _other(what: str) -> UserError:
  return UserError(
    f"the reference has another architecture than the policy: {what}.",
    where="ref_params",
    remedy="Policy and reference share the model's functions; pass the"
    " parameters of a model with the same config.",
  )


def _shapes(params: Params) -> dict[tuple[Any, ...], tuple[int, ...]]:
  leaves = jax.tree_util.tree_leaves_with_path(params)
  return {path: np.shape(leaf) for path, leaf in leaves}


def _name(path: tuple[Any, ...]) -> str:
  return jax.tree_util.keystr(path, simple=True, separator="/")
