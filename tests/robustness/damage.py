"""Ways to damage a file."""

import pathlib


def truncated(path: pathlib.Path) -> None:
  data = path.read_bytes()
  path.write_bytes(data[: len(data) // 2])


def emptied(path: pathlib.Path) -> None:
  path.write_bytes(b"")


def flipped(path: pathlib.Path) -> None:
  """Flips one bit in the middle of a file, whose size stays."""
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 4
  path.write_bytes(bytes(data))


def lengthened(path: pathlib.Path) -> None:
  path.write_bytes(path.read_bytes() + b"\0")


def deleted(path: pathlib.Path) -> None:
  path.unlink()


def replaced_by_a_folder(path: pathlib.Path) -> None:
  path.unlink()
  path.mkdir()


KINDS = (
  truncated,
  emptied,
  flipped,
  lengthened,
  deleted,
  replaced_by_a_folder,
)
# Files whose bytes don't influence the values that are read.
UNREAD = ("_CHECKPOINT_METADATA", "commit_success.txt")


def files(checkpoint: pathlib.Path) -> list[pathlib.Path]:
  """Every file of a checkpoint."""
  return sorted(path for path in checkpoint.rglob("*") if path.is_file())
