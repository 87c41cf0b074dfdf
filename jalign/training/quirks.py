"""Works around behaviour of orbax that nobody would expect."""

import pathlib
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import orbax.checkpoint as ocp

from jalign.errors import UserError

_CENTURY = 3_155_760_000  # seconds
_PATTERN = frozenset("*?[")


class Manager(ocp.CheckpointManager):
  """A manager that leaves preemption alone, and tells of a failure at once.

  Orbax asks JAX's preemption service at each save, with the number of the step.
  The service takes the newest number for how far a process is, and its numbers
  here are those of `jalign.preemption`.

  The thread of a failed save waits for other processes before anybody sees its
  error, while they wait for the part that couldn't be written, for minutes.

  Args:
    *args: see the base class.
    failed: called with the error of a save in the background, by its thread.
    **kwargs: see the base class.
  """

  def __init__(
    self, *args: Any, failed: Callable[[Exception], None], **kwargs: Any
  ):
    self._failed = failed
    super().__init__(*args, **kwargs)

  def _wait_for_checkpointers(self) -> None:
    """What the save's thread does before it waits for other processes."""
    try:
      super()._wait_for_checkpointers()
    except Exception as e:
      self._failed(e)
      raise

  def reached_preemption(self, step: int) -> bool:
    """Nobody asked for this step."""
    del step
    return False


def without_patterns(
  folder: pathlib.Path,
) -> tuple[pathlib.Path, tempfile.TemporaryDirectory | None]:
  """A path that orbax doesn't take for a pattern.

  Orbax looks for its own files by names such as `PATH/process_*`. Below
  `run[1]` it would find nothing, and below `a*` the files of another run.

  Returns:
    (the folder, None), or (a link to the folder, what holds the link).

  Raises:
    UserError: several processes share the path; each would have its own link.
  """
  if not _PATTERN & set(str(folder)):
    return folder, None
  if jax.process_count() > 1:
    raise UserError(
      "the folder's path has one of the characters * ? [ and is shared by"
      " several processes.",
      where=str(folder),
      remedy="Choose another --workdir.",
    )
  folder.mkdir(parents=True, exist_ok=True)
  holder = tempfile.TemporaryDirectory(prefix="jalign-")
  link = pathlib.Path(holder.name).resolve() / "checkpoints"
  link.symlink_to(folder)
  return link, holder


def timeout() -> dict[str, int]:
  """Options that keep orbax's time limits from ending a save.

  Orbax takes the limits from the wall clock, which may be set: a laptop that
  wakes from sleep would lose the save that it was in. Several hosts keep the
  limits, which end the wait for a host that is gone.
  """
  if jax.process_count() > 1:
    return {}
  # When one of its threads waits for another, the limit has no option.
  private: Any = sys.modules.get("orbax.checkpoint._src.multihost.multihost")
  if hasattr(private, "coordination_timeout"):
    private.coordination_timeout = lambda: _CENTURY
  return {"timeout_secs": _CENTURY}
