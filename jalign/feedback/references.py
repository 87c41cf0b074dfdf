"""Reference rewards of prompts, by which rewards are centred."""

import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from jalign.errors import UserError
from jalign.feedback.values import shortened

Reference = float | Mapping[str, float]  # a constant, or by prompt


def quantiles(
  prompts: Sequence[str], rewards: Iterable[float], q: float
) -> dict[str, float]:
  """The q-quantile of each prompt's rewards, by prompt.

  Args:
    prompts: [N] prompts, a prompt for each reward.
    rewards: [N] rewards of reference responses, finite.
    q: quantile in [0, 1], interpolated linearly between the two nearest.

  Raises:
    UserError: q is outside [0, 1], or a reward isn't finite.
  """
  if not 0 <= q <= 1:
    raise UserError(f"{q} is outside [0, 1].", where="quantile")
  by_prompt: dict[str, list[float]] = {}
  for prompt, reward in zip(prompts, rewards, strict=True):
    if not np.isfinite(reward):
      raise UserError(
        f"the reward of a response to {shortened(prompt)} is {reward}.",
        where="references",
      )
    by_prompt.setdefault(prompt, []).append(float(reward))
  return {p: float(np.quantile(x, q)) for p, x in by_prompt.items()}


def reference_of(
  reference: Reference, prompts: Sequence[str], where: str = "references"
) -> np.ndarray:
  """[N] references of prompts.

  Raises:
    UserError: a prompt has none.
  """
  if not isinstance(reference, Mapping):
    return np.full(len(prompts), float(reference))
  lacking = [prompt for prompt in prompts if prompt not in reference]
  if lacking:
    raise UserError(
      f"{len(lacking)} of {len(prompts)} prompts have no reference, such as"
      f" {shortened(lacking[0])}.",
      where=where,
      remedy="Add these prompts to the file, as judges see them: without chat"
      " markers.",
    )
  return np.array([reference[prompt] for prompt in prompts], np.float64)


def read_references(
  path: pathlib.Path, reward: str = "reward", quantile: float = 0.5
) -> dict[str, float]:
  """Reads reference rewards by prompt from a file of JSON lines.

  Args:
    path: file of rows {"prompt": TEXT, REWARD: NUMBER or list of NUMBERS}; a
      prompt may have several rows.
    reward: the key of the rewards.
    quantile: the quantile of a prompt's rewards that is its reference. The
      paper's own isn't established here; compare 0.5 and 0.85.

  Raises:
    UserError: the file or a row can't be read.
  """
  prompts: list[str] = []
  rewards: list[float] = []
  try:
    lines = path.read_text().splitlines()
  except (OSError, UnicodeDecodeError) as e:
    raise UserError(f"can't be read: {e}.", where=str(path)) from None
  for at, line in enumerate(lines, 1):
    if not line.strip():
      continue
    try:
      row = json.loads(line)
      values = row[reward]
      values = values if isinstance(values, list) else [values]
      rewards += [float(value) for value in values]
      prompts += [str(row["prompt"])] * len(values)
    except (ValueError, KeyError, TypeError) as e:
      there = ", ".join(row) if isinstance(row, dict) else ""
      raise UserError(
        f"the row isn't {{'prompt': text, {reward!r}: number}} ({e!r}).",
        where=f"{path}:{at}",
        remedy=f"It has: {there}." if there else "Write a JSON object a line.",
      ) from None
  return quantiles(prompts, rewards, quantile)
