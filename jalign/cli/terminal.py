"""Output and exit of commands: errors, closed pipes, full disks."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

from jalign.errors import UserError


class _Stream:
  """A text stream whose failures aren't confused with those of other files."""

  def __init__(self, stream: Any, name: str):
    self._stream, self._name = stream, name

  def __getattr__(self, name: str) -> Any:
    return getattr(self._stream, name)

  def write(self, text: str) -> int:
    with self._telling():
      return self._stream.write(text)

  def writelines(self, lines: Any) -> None:
    for line in lines:
      self.write(line)

  def flush(self) -> None:
    with self._telling():
      self._stream.flush()

  @contextlib.contextmanager
  def _telling(self) -> Iterator[None]:
    try:
      yield
    except OSError as e:
      # Python flushes once more when it exits; the text goes to /dev/null.
      with contextlib.suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self._stream.fileno())
        os.close(nothing)
      if isinstance(e, BrokenPipeError):  # the reader, such as head, has ended
        sys.exit(128 + signal.SIGPIPE)
      raise UserError(
        f"can't be written ({e.strerror or e}).", where=self._name
      ) from e


@contextlib.contextmanager
def careful() -> Iterator[None]:
  """Escapes characters that can't be shown; errors name the stream that failed.

  This holds for both standard streams while the context lasts.
  """
  before = sys.stdout, sys.stderr
  names = "standard output", "standard error"
  errors = [getattr(stream, "errors", None) for stream in before]
  _escape(before, ["backslashreplace"] * 2)
  sys.stdout, sys.stderr = (  # None where they are closed
    stream and _Stream(stream, name) for stream, name in zip(before, names)
  )
  try:
    yield
    if sys.stdout is not None:
      sys.stdout.flush()
  finally:
    sys.stdout, sys.stderr = before
    _escape(before, errors)


def _escape(streams, errors) -> None:
  for stream, how in zip(streams, errors):
    if hasattr(stream, "reconfigure") and how is not None:
      with contextlib.suppress(OSError, ValueError):
        stream.reconfigure(errors=how)


def guarded(program: str, work: Callable[[], None]) -> None:
  """Does some work; a user's mistake prints a paragraph, with exit code 2."""
  try:
    with careful():
      work()
  except UserError as e:
    _fail(program, e)
  except OSError as e:
    if not isinstance(e.filename, str):
      raise
    _fail(program, UserError(f"{e.strerror}.", where=e.filename))
  except KeyboardInterrupt:
    print(f"{program}: interrupted", file=sys.stderr)
    sys.exit(128 + signal.SIGINT)


def _fail(program: str, error: UserError) -> None:
  with careful():
    print(error.paragraph(program), file=sys.stderr)
  sys.exit(2)
