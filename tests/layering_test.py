"""The direction of imports: a module imports from its own layer or below."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[1]

LAYERS = {
  "types": 0,
  "sharding": 0,
  "device_grid": 0,
  "errors": 0,
  "glossary": 0,
  "files": 0,
  "hosts": 0,
  "messages": 0,
  "address": 0,
  "cluster": 0,
  "heartbeat": 0,
  "preemption": 0,
  "products": 0,
  "lookup": 0,
  "losses": 1,
  "logprobs": 1,
  "decode": 1,
  "games": 1,
  "models": 2,
  "data": 2,
  "feedback": 3,
  "training": 4,
  "online": 5,
  "evaluation": 6,
  "diagnostics": 7,
  "pages": 8,
  "experiment": 9,
  "plan": 10,
  "configs": 10,
  "cli": 11,
}

# The rooms of jalign.experiment: a module imports from its own room or from
# those before it. "" stands for modules outside any room: a run and its stages.
ROOMS = ("config", "disk", "data", "", "commands")

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
  "matplotlib": 8,
  "markdown_it": 8,
  "ml_collections": 9,
  "absl": 9,
}


def _sources(root):
  """The package's files, with those of jalign/configs, which is a link."""
  package = root / "jalign"
  return sorted([*package.rglob("*.py"), *(package / "configs").rglob("*.py")])


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
  for path in _sources(root):
    parts = path.relative_to(root / "jalign").with_suffix("").parts
    if parts == ("__init__",) or parts[-1] == "__main__":
      continue
    layer = LAYERS[parts[0]]
    for line, name in _imports(path):
      head, *tail = name.split(".")
      if head == "jalign" and tail and LAYERS.get(tail[0], 0) > layer:
        yield f"{path}:{line}: {parts[0]} (layer {layer}) imports {name}"
      if LIBRARIES.get(head, 0) > layer:
        yield f"{path}:{line}: {parts[0]} (layer {layer}) imports {name}"


def _room(parts):
  """The room of a module of jalign.experiment, given by its parts."""
  return parts[1] if len(parts) > 2 and parts[1] in ROOMS else ""


def _across_rooms(root):
  for path in sorted((root / "jalign" / "experiment").rglob("*.py")):
    parts = path.relative_to(root / "jalign").with_suffix("").parts
    for line, name in _imports(path):
      if name.startswith("jalign.experiment."):
        asked = _room((*name.split(".")[1:], "")) if name else ""
        if ROOMS.index(asked) > ROOMS.index(_room(parts)):
          yield f"{path}:{line}: {_room(parts) or 'experiment'} imports {name}"


def _circles(root):
  """Packages of jalign that import each other, directly or not."""
  packages = {path.name for path in (root / "jalign").iterdir()}
  graph = {}
  for path in _sources(root):
    parts = path.relative_to(root / "jalign").with_suffix("").parts
    if len(parts) > 1 and parts[-1] != "__main__":
      names = [name.split(".") for _, name in _imports(path)]
      asked = {n[1] for n in names if n[0] == "jalign" and len(n) > 1}
      asked = asked & packages - {parts[0]}
      graph.setdefault(parts[0], set()).update(asked)
  reached = {package: set(asked) for package, asked in graph.items()}
  for _ in graph:
    for asked in reached.values():
      for name in list(asked):
        asked |= reached.get(name, set())
  return sorted(name for name, asked in reached.items() if name in asked)


def test_what_python_runs_is_a_command_of_the_cli():
  """A `__main__` only calls the command, so it has no layer."""
  for path in (ROOT / "jalign").rglob("__main__.py"):
    _, source, call = ast.parse(path.read_text()).body
    assert isinstance(source, ast.ImportFrom)
    assert source.module and source.module.startswith("jalign.cli"), path
    assert ast.unparse(call) == "main()", path


def test_modules_import_from_their_own_layer_or_below():
  assert list(_violations(ROOT)) == []


def test_no_package_imports_another_in_a_circle():
  assert _circles(ROOT) == []


def test_rooms_of_the_experiment_are_entered_in_their_order():
  assert list(_across_rooms(ROOT)) == []


def test_a_circle_and_a_wrong_room_are_found(tmp_path):
  for name, text in {
    "a/x.py": "from jalign.b.y import f",
    "b/y.py": "import jalign.a.x",
    "experiment/config/z.py": "from jalign.experiment.data import dataset",
  }.items():
    path = tmp_path / "jalign" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
  assert _circles(tmp_path) == ["a", "b"]
  assert len(list(_across_rooms(tmp_path))) == 1


def test_an_upward_import_is_found(tmp_path):
  (tmp_path / "jalign" / "losses").mkdir(parents=True)
  bad = tmp_path / "jalign" / "losses" / "x.py"
  bad.write_text("def f():\n  from jalign.training import step\n  import optax")
  assert len(list(_violations(tmp_path))) == 2


def test_file_sizes_and_names():
  for path in _sources(ROOT):
    names = ["utils", "common", "helpers", "misc"]
    if "configs" not in path.parts:  # whose base.py lists every key
      names.append("base")
    assert path.stem not in names, path
    assert len(path.read_text().splitlines()) <= 350, path
