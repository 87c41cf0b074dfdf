"""Import direction is a test: a module imports from its own layer or below."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[1]

LAYERS = {
  "types": 0,
  "sharding": 0,
  "errors": 0,
  "files": 0,
  "products": 0,
  "losses": 1,
  "candidates": 1,
  "logprobs": 1,
  "decode": 1,
  "games": 1,
  "models": 2,
  "data": 2,
  "feedback": 3,
  "training": 4,
  "evaluation": 5,
  "diagnostics": 5,
  "cli": 6,
  "experiment": 6,
}

# The lowest layer at which a library may be imported.
LIBRARIES = {
  "transformers": 2,
  "tokenizers": 2,
  "grain": 2,
  "tensorflow_datasets": 2,
  "datasets": 2,
  "pyarrow": 2,
  "optax": 4,
  "orbax": 4,
  "tensorstore": 4,
  "tensorboard": 4,
  "tqdm": 4,
  "matplotlib": 5,
  "markdown_it": 5,
  "ml_collections": 6,
  "absl": 6,
}


def _imports(path):
  """Yields (line, dotted name) of everything that a file imports."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      for alias in node.names:
        yield node.lineno, alias.name
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f"{path}:{node.lineno}: relative import"
      for alias in node.names:
        yield node.lineno, f"{node.module}.{alias.name}"


def _violations(root):
  for path in sorted((root / "jalign").rglob("*.py")):
    parts = path.relative_to(root / "jalign").with_suffix("").parts
    if parts == ("__init__",) or parts == ("__main__",):
      continue
    # What only a command imports is a command's.
    layer = LAYERS["cli" if parts[-1] == "__main__" else parts[0]]
    for line, name in _imports(path):
      head, *rest = name.split(".")
      if head == "jalign" and rest and LAYERS.get(rest[0], 0) > layer:
        yield f"{path}:{line}: {parts[0]} (layer {layer}) imports {name}"
      if LIBRARIES.get(head, 0) > layer:
        yield f"{path}:{line}: {parts[0]} (layer {layer}) imports {name}"


def test_modules_import_from_their_own_layer_or_below():
  assert list(_violations(ROOT)) == []


def test_an_upward_import_is_found(tmp_path):
  (tmp_path / "jalign" / "losses").mkdir(parents=True)
  bad = tmp_path / "jalign" / "losses" / "x.py"
  bad.write_text("def f():\n  from jalign.training import step\n  import optax")
  assert len(list(_violations(tmp_path))) == 2


def test_file_sizes_and_names():
  for path in (ROOT / "jalign").rglob("*.py"):
    assert path.stem not in ("utils", "common", "helpers", "base", "misc"), path
    assert len(path.read_text().splitlines()) <= 350, path
