"""Hashes of the code of the Python functions that a config names."""

import ast
import hashlib
import importlib.util
import pathlib
import sys
from collections.abc import Iterator


def fingerprint(name: str) -> str:
  """Returns a hash of a function's file and of its imports from that folder.

  Comments and layout don't count. Files that the code reads as it runs, such as
  the weights of a reward model, aren't hashed.

  Args:
    name: "file.py:name" or "package.module:name", which must be loadable.
  """
  module = name.rpartition(":")[0]
  path = pathlib.Path(module) if module.endswith(".py") else _file_of(module)
  digest = hashlib.sha256()
  if path is None:  # a built-in module, which Python's version identifies
    return digest.hexdigest()[:32]
  root = path.resolve().parent
  for file in sorted(_with_imports(path.resolve(), root)):
    for part in (str(file.relative_to(root)).encode(), _content(file)):
      digest.update(len(part).to_bytes(8, "little") + part)
  return digest.hexdigest()[:32]


def _file_of(module: str) -> pathlib.Path | None:
  loaded = sys.modules.get(module)
  spec = getattr(loaded, "__spec__", None) or importlib.util.find_spec(module)
  origin = spec.origin if spec is not None and spec.has_location else None
  return pathlib.Path(origin) if origin else None


def _content(path: pathlib.Path) -> bytes:
  data = path.read_bytes()
  try:
    return ast.unparse(ast.parse(data)).encode()
  except (SyntaxError, ValueError, RecursionError):  # compiled, for example
    return data


def _with_imports(path: pathlib.Path, root: pathlib.Path) -> set[pathlib.Path]:
  """Returns a file and, recursively, the files below a folder it imports."""
  files, left = set(), [path]
  while left:
    file = left.pop()
    if file in files:
      continue
    files.add(file)
    try:
      tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
      continue
    for name, level in _imported(tree):
      left += _places(name, level, file, root)
  return files


def _imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
  """Yields (dotted name, level) of imports; level 0 is an absolute import."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from ((alias.name, 0) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      base = node.module or ""
      yield base, node.level
      for alias in node.names:
        yield f"{base}.{alias.name}".strip("."), node.level


def _places(
  name: str, level: int, of: pathlib.Path, root: pathlib.Path
) -> Iterator[pathlib.Path]:
  """Yields the files below the root that an imported name may stand for."""
  parts = name.split(".") if name else []
  if level:
    starts = [(of.parents[min(level, len(of.parents)) - 1], parts)]
  else:  # beside the file, or by the full name of the package around it
    starts = [(root, parts)]
    for depth in range(1, len(parts)):
      if root.parts[-depth:] == tuple(parts[:depth]):
        starts.append((root, parts[depth:]))
  for start, names in starts:
    for path in (
      start.joinpath(*names).with_suffix(".py") if names else None,
      start.joinpath(*names, "__init__.py"),
    ):
      if path is not None and path.is_file():
        path = path.resolve()
        if path.is_relative_to(root):
          yield path
