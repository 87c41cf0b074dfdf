"""Rounds lengths up, so that few programs are compiled; counts the programs."""

import collections

_EXACT = 16
_compiled: collections.Counter[str] = collections.Counter()


def bucket(size: int) -> int:
  """Rounds a length up to one for which programs are compiled.

  Lengths up to 16 stay as they are. Above 16 there are four lengths for each
  factor of two (20, 24, 28, 32, 40 ...): padding adds at most a quarter.

  Args:
    size: number of tokens, at least 1.

  Returns:
    The rounded length, at least `size`.
  """
  if size <= _EXACT:
    return size
  quarter = 1 << ((size - 1).bit_length() - 3)
  return -(-size // quarter) * quarter


def count_compiled(name: str) -> None:
  """Adds one to the count of a program; called while JAX traces the program."""
  _compiled[name] += 1


def compiled() -> dict[str, int]:
  """Programs that `generate` has compiled in this process, counted by shape.

  A shape counts more than once where the policy, the sampler or the dtypes
  differed. Many different shapes mean that prompts come in many widths or batch
  sizes.

  Returns:
    A shape such as "8 rows of 64 + 128 tokens" -> number of programs.
  """
  return dict(_compiled)
