"""What orbax does that nobody would expect, and how it is kept from it."""

import pathlib
import sys
import tempfile
from typing import Any

import jax

from jalign.errors import UserError

_CENTURY = 3_155_760_000  # seconds
_PATTERN = frozenset("*?[")


def without_patterns(
  folder: pathlib.Path,
) -> tuple[pathlib.Path, tempfile.TemporaryDirectory | None]:
  """A path that orbax doesn't take for a pattern.

  It looks for what it wrote by names such as `PATH/process_*`: below `run[1]`
  it finds nothing, and below `a*` what another run wrote.

  Returns:
    (the folder, None), or a link to it and the folder that holds the link.

  Raises:
    UserError: several processes would each have a link of their own.
  """
  if not _PATTERN & set(str(folder)):
    return folder, None
  if jax.process_count() > 1:
    raise UserError(
      "its path has one of the characters * ? [ and is shared by several"
      " processes.",
      where=str(folder),
      remedy="Choose another --workdir.",
    )
  folder.mkdir(parents=True, exist_ok=True)
  holder = tempfile.TemporaryDirectory(prefix="jalign-")
  link = pathlib.Path(holder.name).resolve() / "checkpoints"
  link.symlink_to(folder)
  return link, holder


def timeout() -> dict[str, int]:
  """Orbax takes its time limits from the wall clock, which may be set.

  A laptop that wakes from sleep would lose the save that it was in. Several
  hosts keep the limits: there they end the wait for one that is gone.
  """
  if jax.process_count() > 1:
    return {}
  # The wait of one of its threads for another has a limit without an option.
  private: Any = sys.modules.get("orbax.checkpoint._src.multihost.multihost")
  if hasattr(private, "coordination_timeout"):
    private.coordination_timeout = lambda: _CENTURY
  return {"timeout_secs": _CENTURY}
