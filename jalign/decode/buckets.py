"""Few programs for many lengths, and a count of those that were compiled."""

import collections

_EXACT = 16
_compiled: collections.Counter[str] = collections.Counter()


def bucket(size: int) -> int:
  """The length that a program is compiled for: at least `size`.

  Lengths up to 16 are their own; beyond, there are four to a factor of two
  (20, 24, 28, 32, 40 ...), so that a quarter is padding at most.

  Args:
    size: tokens, at least 1.
  """
  if size <= _EXACT:
    return size
  quarter = 1 << ((size - 1).bit_length() - 3)
  return -(-size // quarter) * quarter


def count_compiled(name: str) -> None:
  """Counts one program; called while it is traced."""
  _compiled[name] += 1


def compiled() -> dict[str, int]:
  """Programs that `generate` has compiled in this process, and how often.

  One name can count more than once: a program belongs to a policy, a sampler
  and types, too. Many names: prompts come in many widths or batch sizes.

  Returns:
    "8 prompts of 64 + 128 tokens" -> number of programs.
  """
  return dict(_compiled)
