"""Finds a checkpoint's folder, and writes folders that appear whole."""

import contextlib
import os
import pathlib
import re
from collections.abc import Iterator

from jalign import files
from jalign.errors import UserError

# Files of a repository that are downloaded: no pickles, no code.
_FILES = ("*.json", "*.safetensors", "*.model", "*.jinja", "*.txt")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?(@[\w./-]+)?")


def resolve(
  name: str | os.PathLike[str], *, weights: bool = True
) -> pathlib.Path:
  """Finds the folder of a checkpoint.

  Args:
    name: a folder, or else a repository on the Hugging Face hub with an
      optional revision, "ORG/NAME@REVISION". Where ORG is a folder here, the
      revision is needed. The repository's copy in the local
      cache is taken; if there is none, the repository is downloaded to the
      cache.
    weights: whether the folder is to hold the weights; without them, only
      config.json is downloaded.

  Returns:
    The folder.

  Raises:
    UserError: the name is neither a folder nor a repository, or the hub can't
      be reached or refuses.
  """
  path = pathlib.Path(name).expanduser()
  if path.exists():
    return path
  text = os.fspath(name)
  if not _HUB_ID.fullmatch(text):
    raise UserError(
      "there is no such folder.",
      where=text,
      remedy="Give a folder, or a repository of the hub: ORG/NAME.",
    )
  if path.parent != pathlib.Path() and path.parent.is_dir() and "@" not in text:
    raise UserError(
      f"there is no such folder in {path.parent}.",
      where=text,
      remedy=f"For a repository of the hub, name its revision: {text}@main.",
    )
  import huggingface_hub  # slow to import

  repository, _, revision = text.partition("@")
  problem = "there is no such folder"
  for local in (True, False):
    try:
      snapshot = pathlib.Path(
        huggingface_hub.snapshot_download(
          repository,
          revision=revision or None,
          allow_patterns=list(_FILES) if weights else ["config.json"],
          local_files_only=local,
        )
      )
    except Exception as error:  # many kinds: no network, unknown name, gated
      if not local:
        line = (str(error).strip() or type(error).__name__).partition("\n")[0]
        raise UserError(
          f"{problem}, and it can't be downloaded from the hub ({line}).",
          where=text,
          remedy="Check the name; a gated repository needs a token"
          " (`hf auth login`). Without a network, copy the folder here.",
        ) from None
    else:
      needed = "*.safetensors" if weights else "config.json"
      if not local or list(snapshot.glob(needed)):
        return snapshot
      problem = f"the copy in {snapshot} holds no weights"
  raise AssertionError("the hub answers or raises")


@contextlib.contextmanager
def appearing(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a temporary folder to write into, which is then renamed.

  Args:
    folder: the name that the folder gets at the end.

  Raises:
    UserError: the folder exists.
  """
  if folder.exists():
    raise UserError(
      "already exists.", where=str(folder), remedy="Name another folder."
    )
  with files.appearing(folder) as partial:
    partial.mkdir()
    yield partial
