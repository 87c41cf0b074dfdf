"""Flags of a command, and what to say when they are wrong."""

from collections.abc import Sequence

from absl import flags

from jalign.errors import UserError


def parse_flags(
  values: flags.FlagValues, arguments: Sequence[str], words: int = 0
) -> list[str]:
  """Parses flags; whatever is wrong with them is the user's.

  Returns:
    At most `words` arguments that are no flags.
  """
  values.set_gnu_getopt()  # flags may follow the words
  try:
    rest = values(["jalign", *arguments])[1:]
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as e:
    text = str(e.args[0]) if e.args else str(e)
    for argument in arguments:
      key = argument.lstrip("-").partition("=")[0]
      if key.startswith("config.") and key.rpartition(".")[2] in text:
        raise UserError(
          f"can't be set ({text}).",
          where=key,
          remedy="Keys and their defaults: experiments/configs/base.py.",
        ) from e
    raise UserError(text, where="flags") from e
  if len(rest) > words:
    raise UserError(
      f"{rest[words]!r} is not a flag.", remedy="Flags begin with --."
    )
  return rest
