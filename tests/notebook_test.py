"""The notebooks use what exists, run, and are committed without outputs.

`make test` reads every notebook: its code compiles, its names are defined, and
what it imports and calls of jalign is there with these arguments. The tour of
the losses is run, too. `make test-slow` runs all of them, as a reader does: in
a kernel of their own, from an empty folder.
"""

import ast
import functools
import inspect
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import types

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest

from jalign import cli
from jalign.cli.config_file import read_config
from jalign.cli.parsing import parse
from jalign.glossary import SECTIONS, rows_of
from jalign.losses import CATALOGUE

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

# Runs in a process of its own, as the Jupyter libraries warn.
EXECUTE = """
import sys, nbclient, nbformat
source, folder, target = sys.argv[1:]
notebook = nbformat.read(source, as_version=4)
nbclient.NotebookClient(
  notebook,
  kernel_name="this-interpreter",
  timeout=900,
  resources={"metadata": {"path": folder}},
).execute()
nbformat.write(notebook, target)
"""


def _code(path):
  """The sources of the code cells; a magic is a line without effect."""
  notebook = nbformat.read(path, as_version=4)
  return [
    re.sub(r"^(\s*)%.*", r"\1pass", cell.source, flags=re.M)
    for cell in notebook.cells
    if cell.cell_type == "code"
  ]


# ------------------------------------------------------------- without running


def _is_own(owner):
  """Whether an object is a module or a class of jalign."""
  if isinstance(owner, types.ModuleType):
    return owner.__name__.startswith("jalign")
  return isinstance(owner, type) and owner.__module__.startswith("jalign")


class _Names:
  """The names that a source imports, and its wrong uses of them."""

  def __init__(self, source):
    self.tree = ast.parse(source)
    self.imported = {}
    for node in self.tree.body:
      if isinstance(node, ast.Import | ast.ImportFrom):
        exec(compile(ast.Module([node], []), "imports", "exec"), self.imported)
    for node in ast.walk(self.tree):  # a local of the same name isn't that
      if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        self.imported.pop(node.id, None)
      elif isinstance(node, ast.arg):
        self.imported.pop(node.arg, None)

  def value(self, node):
    """The value of an expression of imported names; None if it isn't known.

    Raises:
      AttributeError: a module or a class of jalign lacks a name.
    """
    if isinstance(node, ast.Name):
      return self.imported.get(node.id)
    if isinstance(node, ast.Attribute):
      owner = self.value(node.value)
      if owner is functools or _is_own(owner):
        return getattr(owner, node.attr)
    return None

  def wrong(self):
    """A line for each name that doesn't exist, and for each wrong call."""
    lines = []
    for node in ast.walk(self.tree):
      try:
        if isinstance(node, ast.Attribute):
          self.value(node)
        elif isinstance(node, ast.Call):
          self._call(node)
      except (AttributeError, TypeError) as error:
        lines.append(f"{ast.unparse(node)[:60]}: {error}")
    return lines

  def _call(self, node):
    function, arguments = self.value(node.func), node.args
    bound = function is functools.partial
    if bound:
      function, arguments = self.value(arguments[0]), arguments[1:]
    if not (getattr(function, "__module__", None) or "").startswith("jalign"):
      return
    names = {k.arg: None for k in node.keywords if k.arg is not None}
    starred = any(isinstance(a, ast.Starred) for a in arguments)
    partly = bound or starred or len(names) < len(node.keywords)
    plain = [a for a in arguments if not isinstance(a, ast.Starred)]
    signature = inspect.signature(function)
    bind = signature.bind_partial if partly else signature.bind
    bind(*plain, **names)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_what_they_use_exists(path):
  for source in _code(path):
    compile(source, path.name, "exec")
  assert _Names("\n".join(_code(path))).wrong() == []


def test_the_check_finds_what_has_changed():
  source = """
import functools
from jalign import data, losses
from jalign.models import hf
losses.dppo
data.read("pairs")
data.Limits(max_token=3)
functools.partial(losses.dpo, betta=1)
hf.families.NOTHING
data.read("pairs", *options)
functools.partial(losses.dpo, beta=1)
"""
  assert {line.partition(":")[0] for line in _Names(source).wrong()} == {
    "data.read('pairs')",
    "data.Limits(max_token=3)",
    "functools.partial(losses.dpo, betta=1)",
    "losses.dppo",
    "hf.families.NOTHING",
  }


def test_their_names_are_defined_and_used():
  command = [sys.executable, "-m", "ruff", "check", "--isolated"]
  done = subprocess.run(
    [*command, "--no-cache", "--select=F,E9", str(FOLDER)],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stdout


# A text in the code that can only be the name of a metric.
METRIC = re.compile(
  r"all/\w+|[a-z_]+(_accuracy|_norm|_share|_nats|_bits|_per_token)"
)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_the_metrics_that_they_show_are_in_the_glossary(path):
  tree = ast.parse("\n".join(_code(path)))
  texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
  names = [x for x in texts if isinstance(x, str) and METRIC.fullmatch(x)]
  sections = [s for s in SECTIONS if s not in ("measures", "algorithm")]
  assert [
    name for name in names if not any(rows_of(f"{s}/{name}") for s in sections)
  ] == []
  assert (len(names) > 5) == (path.stem == "diagnostics")


def _commands(source):
  """The commands in calls of `jalign(...)`; a folder's name is X."""
  for node in ast.walk(ast.parse(source)):
    if not isinstance(node, ast.Call) or ast.unparse(node.func) != "jalign":
      continue
    text = node.args[0]
    parts = text.values if isinstance(text, ast.JoinedStr) else [text]
    yield shlex.split(
      "".join(p.value if isinstance(p, ast.Constant) else "X" for p in parts)
    )


def test_the_commands_exist_with_their_flags():
  source = "\n".join(_code(FOLDER / "own_data_and_checkpoint.ipynb"))
  commands = list(_commands(source))
  assert [c[0] for c in commands] == ["data", "train", "sample", "convert"]
  for name, *flags in commands:
    flags = flags[1:] if name == "data" else flags
    values = parse(cli.COMMANDS[name], f"jalign {name}", flags)
    if name == "train":
      config = read_config(values.config, values.keys)
      assert config["lora"]["rank"] == 8 and config["steps"] == 30


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_they_are_committed_without_outputs(path):
  notebook = nbformat.read(path, as_version=4)
  nbformat.validate(notebook)
  code = [cell for cell in notebook.cells if cell.cell_type == "code"]
  assert all(not c.outputs and c.execution_count is None for c in code)
  first = notebook.cells[0].source
  assert first.startswith("[![Open In Colab]") and path.name in first
  assert "pip install -q git+https://github.com/jalign/jalign" in code[0].source
  # Nothing is read from the notebook's own folder.
  assert not re.search(r"experiments/|\.\./", "".join(c.source for c in code))


def test_losses_runs(tmp_path, monkeypatch, capsys):
  pictures = []
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(plt, "show", lambda: pictures.extend(plt.get_fignums()))
  namespace = {}
  with np.printoptions():  # the notebook sets options of its own
    for source in _code(FOLDER / "losses.ipynb"):
      exec(compile(source, "losses", "exec"), namespace)
  plt.close("all")
  text = capsys.readouterr().out
  assert len(set(pictures)) == 2
  listed = re.findall(r"^(\w+): (.+)$", text, flags=re.M)
  for kind, names in listed[: len({e.batch for e in CATALOGUE.values()})]:
    known = [name for name, e in CATALOGUE.items() if e.batch == kind]
    assert names.split(", ") == known
  assert "unknown loss 'ddpo'. Did you mean 'dpo'?" in text
  assert "dpo + sft" in text


# ------------------------------------------------------------------ in a kernel


def _execute(name, folder):
  """Runs a notebook from an empty folder; returns its text and pictures."""
  home = folder / "kernels" / "this-interpreter"
  home.mkdir(parents=True)
  (folder / "empty").mkdir()
  command = [sys.executable, "-m", "ipykernel_launcher"]
  spec = {
    "argv": [*command, "-f", "{connection_file}"],
    "display_name": "this interpreter",
    "language": "python",
  }
  (home / "kernel.json").write_text(json.dumps(spec))
  environment = os.environ | {
    "JUPYTER_PATH": str(folder),
    "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
    "IPYTHONDIR": str(folder / "ipython"),
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
  }
  del environment["XLA_FLAGS"]  # with the devices that a reader has
  target = folder / "executed.ipynb"
  paths = FOLDER / name, folder / "empty", target
  done = subprocess.run(
    [sys.executable, "-c", EXECUTE, *map(str, paths)],
    env=environment,
    capture_output=True,
    text=True,
    timeout=1200,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  cells = nbformat.read(target, as_version=4).cells
  outputs = [out for cell in cells for out in cell.get("outputs", [])]
  assert not [out for out in outputs if out["output_type"] == "error"]
  pictures = sum("image/png" in out.get("data", {}) for out in outputs)
  return "".join(out.get("text", "") for out in outputs), pictures


def _numbers(pattern, text):
  """The numbers that a pattern's groups hold, in the order of the text."""
  matches = re.finditer(pattern, text)
  return [float(group) for match in matches for group in match.groups()]


@pytest.mark.slow
def test_quickstart_runs_and_the_losses_fall(tmp_path):
  text, pictures = _execute("quickstart.ipynb", tmp_path)
  assert pictures == 1
  losses = _numbers(r"updates \d+ to \d+: loss ([0-9.]+)", text)
  assert len(losses) == 8
  assert losses[3] < 1 < 2 < losses[0]  # imitation, nats a token
  assert min(losses[4:]) < losses[4] - 0.1  # DPO
  assert _numbers(r"reward accuracy ([0-9.]+)", text)[-1] > 0.7
  assert "online loss" in text


@pytest.mark.slow
def test_nash_game_runs_and_reaches_the_equilibrium(tmp_path):
  text, pictures = _execute("nash_game.ipynb", tmp_path)
  assert pictures == 2
  assert "Nash beats RLHF in 52.4 %" in text
  assert "lies above 4.663" in text
  first, last = _numbers(r"KL to Nash: (\S+) at first, (\S+) in", text)
  assert last < 0.01 < 0.1 < first


@pytest.mark.slow
def test_own_data_and_checkpoint_runs_and_samples_gain(tmp_path):
  text, pictures = _execute("own_data_and_checkpoint.ipynb", tmp_path)
  assert pictures == 1
  assert _numbers(r"held-out reward accuracy (\S+)", text)[0] > 0.65
  before, after = _numbers(r"(?:before|after): mean reward (\S+)", text)
  assert after > before + 0.4
  assert len(re.findall("logits differ by", text)) >= 2
  assert "(align) -> " in text


@pytest.mark.slow
def test_own_model_runs_and_the_mesh_changes_nothing(tmp_path):
  text, pictures = _execute("own_model.ipynb", tmp_path)
  assert pictures == 2
  assert "8 devices: cpu" in text and "'tensor': 2" in text
  assert text.count("the same tokens") == 2
  for imitated, accuracy in zip(
    _numbers(r"(\S+) nats a token after", text),
    _numbers(r"after DPO (\S+)", text),
  ):
    assert imitated < 1.3 and accuracy > 0.65


@pytest.mark.slow
def test_diagnostics_runs_and_tells_the_losses_apart(tmp_path):
  text, pictures = _execute("diagnostics.ipynb", tmp_path)
  assert pictures == 2
  chosen = _numbers(r"chosen (\S+) nats", text)
  rejected = _numbers(r"rejected (\S+) nats", text)
  assert len(chosen) == 3
  assert all(c > r for c, r in zip(chosen, rejected))
  assert chosen[2] > chosen[0] + 1  # DPOP's chosen responses fall less


@pytest.mark.slow
def test_reward_model_runs_and_a_reward_cannot_tell_the_circle(tmp_path):
  text, pictures = _execute("reward_model.ipynb", tmp_path)
  assert pictures == 3
  best = _numbers(r"best accuracy: (\S+), and", text)[0]
  expected = _numbers(r"expected (\S+), best possible", text)
  assert len(expected) == 2
  assert all(0.56 < value <= best + 2e-3 for value in expected)
  right, by_reward = _numbers(
    r"best model (\S+) of labels right, best reward (\S+)", text
  )
  assert right > by_reward + 0.1
  won = re.findall(r"best of \d+ by the (.+): beats .* in (\S+)%", text)
  assert float(dict(won)["readers"]) > 60
  assert len(re.findall(r"by itself, \S+ by the readers", text)) == 2


@pytest.mark.slow
def test_online_runs_and_nash_is_hard_to_exploit(tmp_path):
  text, pictures = _execute("online.ipynb", tmp_path)
  assert pictures == 2
  for name in ("RLOO", "online DPO"):
    found = _numbers(
      name + r": (?:your )?reward (\S+) at first, (\S+) in", text
    )
    first, last = found
    assert last > first + 0.3
  ends = _numbers(r"exploitability \S+ at first, (\S+) in", text)
  assert len(ends) == 2 and ends[0] < ends[1]
