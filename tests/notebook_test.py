"""The notebooks run, and are committed without outputs."""

import json
import os
import pathlib
import re
import subprocess
import sys

import nbformat
import pytest

from jalign.losses import CATALOGUE

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "notebooks"

# In a process of its own: warnings of the Jupyter libraries are not ours.
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


def _execute(name, folder):
  """Runs a notebook with a kernel of this interpreter; returns its outputs."""
  home = folder / "kernels" / "this-interpreter"
  home.mkdir(parents=True)
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
    # One device, as a reader has it.
    "XLA_FLAGS": os.environ["XLA_FLAGS"]
    + " --xla_force_host_platform_device_count=1",
  }
  target = folder / "executed.ipynb"
  done = subprocess.run(
    [
      sys.executable,
      "-c",
      EXECUTE,
      str(FOLDER / name),
      str(FOLDER),
      str(target),
    ],
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


def test_quickstart_runs_and_the_loss_falls(tmp_path):
  text, pictures = _execute("quickstart.ipynb", tmp_path)
  assert pictures
  losses = [float(x) for x in re.findall(r"to \d+: loss ([0-9.]+)", text)]
  assert len(losses) == 4
  assert losses[-1] < losses[0] - 0.05
  assert "online loss" in text


def test_losses_runs(tmp_path):
  text, pictures = _execute("losses.ipynb", tmp_path)
  assert pictures == 2
  listed = re.findall(r"^(\w+): (.+)$", text, flags=re.M)
  for kind, names in listed[: len({e.batch for e in CATALOGUE.values()})]:
    known = [name for name, e in CATALOGUE.items() if e.batch == kind]
    assert names.split(", ") == known
  assert "unknown loss 'dppo'. Did you mean 'dpo'?" in text
  assert "dpo + sft" in text


@pytest.mark.slow  # a minute; its cells' functions are tested by themselves
def test_nash_game_runs_and_reaches_the_equilibrium(tmp_path):
  text, pictures = _execute("nash_game.ipynb", tmp_path)
  assert pictures == 2
  assert "Nash beats RLHF in 52.4 %" in text
  assert "lies above 4.663" in text
  first, last = re.search(
    r"KL to Nash: (\S+) at first, (\S+) in", text
  ).groups()
  assert float(last) < 0.01 < 0.1 < float(first)


@pytest.mark.parametrize(
  "path", sorted(FOLDER.glob("*.ipynb")), ids=lambda p: p.stem
)
def test_they_are_committed_without_outputs(path):
  notebook = nbformat.read(path, as_version=4)
  nbformat.validate(notebook)
  code = [cell for cell in notebook.cells if cell.cell_type == "code"]
  assert all(not c.outputs and c.execution_count is None for c in code)
  first = notebook.cells[0].source
  assert first.startswith("[![Open In Colab]") and path.name in first
