"""Takes an adapter's tensors apart: changes of weights, and a score's head."""

import collections
import math
import re
from collections.abc import Mapping

import numpy as np
import safetensors.numpy

from jalign.errors import UserError
from jalign.models.config import DTYPES
from jalign.models.hf.adapter_config import CONFIG, AdapterConfig
from jalign.models.hf.shards import listed, not_finite
from jalign.models.hf.tensors import Place

PREFIX, SUFFIX = "base_model.model.", ".weight"
_PARTS = re.compile(
  r"(.+)\.(lora_A|lora_B|lora_magnitude_vector)(?:\.default)?(?:\.weight)?"
)
_HEAD = re.compile(
  r"(?:base_model\.model\.)?score\.(?:modules_to_save\.(?:default\.)?)?weight"
)


def read_tensors(file: str) -> dict[str, np.ndarray]:
  """All tensors of an adapter's file, by PEFT's names."""
  try:
    return safetensors.numpy.load_file(file)
  except Exception as error:  # safetensors raises an exception of its own
    raise UserError(
      f"it can't be read ({type(error).__name__}: {error}).", where=file
    ) from None


def take_head(
  stored: dict[str, np.ndarray], hidden_size: int, file: str
) -> np.ndarray:
  """Takes the score's matrix [M, D] out of an adapter's tensors.

  Raises:
    UserError: there is no such matrix of finite numbers.
  """
  names = [name for name in stored if _HEAD.fullmatch(name)]
  x: np.ndarray = stored.pop(names[0]) if len(names) == 1 else np.zeros(0)
  good = x.shape == (len(x), hidden_size) and str(x.dtype) in DTYPES
  if not good or not_finite(x):
    said = f"{x.dtype} {x.shape}" if names else "missing"
    raise UserError(
      f"the score's matrix is {said}, not finite numbers"
      f" [labels, {hidden_size}].",
      where=file,
      remedy="Save the adapter with its head (modules_to_save=['score']), or"
      " merge the adapter with PEFT.",
    )
  return x.astype(np.float32)


def changes_of(
  stored: Mapping[str, np.ndarray],
  file: str,
  modules: Mapping[str, list[tuple[str, int, Place]]],
  given: AdapterConfig,
) -> dict[str, dict[str, np.ndarray]]:
  """Tensor of the model -> the parts of its change, by PEFT's names."""
  changes: dict[str, dict[str, np.ndarray]] = collections.defaultdict(dict)
  strange, wrong = [], []
  for name, x in stored.items():
    match = _PARTS.fullmatch(name.removeprefix(PREFIX))
    target = match[1] + SUFFIX if match else ""
    if not match or target not in modules or match[2] in changes[target]:
      strange.append(name)
    elif str(x.dtype) not in DTYPES:
      wrong.append(f"{name} has numbers of type {x.dtype}")
    elif count := not_finite(x):
      wrong.append(f"{name} has {count:,} values that aren't finite")
    else:
      changes[target][match[2]] = x.astype(np.float32)
  if wrong:
    raise UserError(
      f"its values can't be added to weights: {listed(wrong)}.",
      where=file,
      remedy="Train the adapter again, or take another checkpoint of it.",
    )
  needed = {"lora_A", "lora_B"}
  if given.use_dora:
    needed.add("lora_magnitude_vector")
  lacking = [n for n, parts in changes.items() if parts.keys() != needed]
  if strange or not changes:
    said = strange or ["no module at all"]
    raise UserError(
      f"these aren't changes of this model's weights: {listed(said)}.",
      where=file,
    )
  if lacking:
    raise UserError(
      f"these changes don't consist of {', '.join(sorted(needed))}, as"
      f" {CONFIG} says: {listed(lacking)}.",
      where=file,
      remedy=f"Take the {CONFIG} that was saved with this file.",
    )
  untouched = [
    name
    for name in modules.keys() - changes.keys()
    if any(f".{name}".endswith(f".{t}{SUFFIX}") for t in given.targets)
  ]
  if untouched:
    raise UserError(
      f"{CONFIG} names modules for which this file has no change:"
      f" {listed(untouched)}.",
      where=file,
      remedy="The file may be cut short: copy or download it again.",
    )
  return dict(changes)


def check_shapes(
  name: str,
  change: Mapping[str, np.ndarray],
  rank: int,
  shape: tuple[int, ...],
  outputs: int,
  where: str,
  file: str,
) -> None:
  """Raises UserError unless a change's shapes fit the weight and the rank."""
  inputs = math.prod(shape) // outputs
  want: dict[str, tuple[int, ...]] = {
    "lora_A": (rank, inputs),
    "lora_B": (outputs, rank),
  }
  got: dict[str, tuple[int, ...]] = {part: change[part].shape for part in want}
  if "lora_magnitude_vector" in change:
    want["lora_magnitude_vector"] = (outputs,)
    got["lora_magnitude_vector"] = (change["lora_magnitude_vector"].size,)
  if got == want:
    return
  ranks = {got["lora_A"][0], *got["lora_B"][1:]}
  if len(ranks) == 1 and ranks != {rank}:
    raise UserError(
      f"the change of {name} has rank {ranks.pop()}, but {CONFIG} says"
      f" {rank} (r, rank_pattern).",
      where=file,
      remedy=f"Take the {CONFIG} that was saved with this file.",
    )
  raise UserError(
    f"the change of {name} has the shapes {list(got.values())}, not"
    f" {list(want.values())}.",
    where=file,
    remedy="Take the checkpoint that the adapter was trained on.",
  )
