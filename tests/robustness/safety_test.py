"""No data, checkpoint or tokenizer can bring code with it."""

import ast
import pathlib

import numpy as np
import pytest

from jalign.training import reference

ROOT = pathlib.Path(__file__).resolve().parents[2] / "jalign"
MODULES = {
  "pickle",
  "cPickle",
  "_pickle",
  "cloudpickle",
  "dill",
  "joblib",
  "marshal",
  "shelve",
  "torch",
  "yaml",
}
CALLS = {"eval", "exec", "compile", "__import__"}
# The functions that a user names in a config, and code of responses, which runs
# in a process of its own within limits.
LOADERS = {
  ("feedback/confined.py", "main"),
  ("experiment/config/functions.py", "load_function"),
  ("experiment/config/code.py", "_file_of"),  # where such a function is written
  ("experiment/config/own_loss.py", "_exists"),  # whether such a file is there
  ("plan/compilers.py", "_tpu"),  # whether a compiler is installed
  ("plan/compilers.py", "_gpu"),
  ("plan/compilers.py", "_cuda_folder"),
}


def _name(node):
  if isinstance(node, ast.Attribute):
    return f"{_name(node.value)}.{node.attr}"
  return node.id if isinstance(node, ast.Name) else ""


def _found(source, where="x.py"):
  """(line, call) of each call in a module that may run code from data."""
  calls, tree = [], ast.parse(source)
  allowed = {
    node
    for function in ast.walk(tree)
    if isinstance(function, ast.FunctionDef)
    and (where, function.name) in LOADERS
    for node in ast.walk(function)
  }
  for node in ast.walk(tree):
    names = []
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      names = [node.module or ""]
    for name in names:
      if name.partition(".")[0] in MODULES:
        calls.append((node.lineno, name))
    if not isinstance(node, ast.Call):
      continue
    called = _name(node.func)
    given = {k.arg: k.value for k in node.keywords}
    if called in CALLS and node not in allowed:
      calls.append((node.lineno, called))
    loads = called.startswith("importlib.") or called.endswith(".exec_module")
    reads = ("importlib.resources.", "importlib.metadata.")
    loads = loads and not called.startswith(reads)
    if loads and node not in allowed:
      calls.append((node.lineno, called))
    if called in ("np.load", "numpy.load", "jnp.load"):
      value = given.get("allow_pickle")
      if not (isinstance(value, ast.Constant) and value.value is False):
        calls.append((node.lineno, called))
    if called.endswith(".from_pretrained"):
      value = given.get("trust_remote_code")
      if not (isinstance(value, ast.Constant) and value.value is False):
        calls.append((node.lineno, called))
    value = given.get("trust_remote_code")
    if isinstance(value, ast.Constant) and value.value:
      calls.append((node.lineno, "trust_remote_code"))
  return calls


def test_the_package_runs_no_code_but_its_own():
  files = sorted(ROOT.rglob("*.py"))
  assert len(files) > 50
  for path in files:
    where = path.relative_to(ROOT).as_posix()
    assert not _found(path.read_text(), where), where


def test_the_scan_lets_the_package_read_its_own_files():
  assert not _found("importlib.resources.files('jalign')")


@pytest.mark.parametrize(
  "line",
  [
    "import pickle",
    "from joblib import load",
    "import torch.serialization",
    "import yaml",
    "eval(text)",
    "np.load(path)",
    "np.load(path, allow_pickle=True)",
    "AutoTokenizer.from_pretrained(path)",
    "f(trust_remote_code=True)",
    "importlib.import_module(name)",
    "spec.loader.exec_module(module)",
  ],
)
def test_the_scan_sees_what_it_should(line):
  assert _found(line)


class _Bomb:
  def __reduce__(self):
    return (pytest.fail, ("code in a file was run",))


def test_a_table_with_pickled_objects_is_not_read(tmp_path, capsys):
  path = tmp_path / "reference_logps.npz"
  bomb = np.array([_Bomb()], dtype=object)
  np.savez(path, fingerprint="f", sources=bomb, logps=np.zeros(1))
  assert reference.load(path, "f") is None
  assert "is damaged" in capsys.readouterr().out
