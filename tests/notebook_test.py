"""The quickstart notebook runs, learns, and is committed without outputs."""

import json
import os
import pathlib
import re
import subprocess
import sys

import nbformat

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "notebooks"
PATH = FOLDER / "quickstart.ipynb"

# In a process of its own: warnings of the Jupyter libraries are not ours.
EXECUTE = """
import sys, nbclient, nbformat
source, folder, target = sys.argv[1:]
notebook = nbformat.read(source, as_version=4)
nbclient.NotebookClient(
  notebook,
  kernel_name="this-interpreter",
  timeout=300,
  resources={"metadata": {"path": folder}},
).execute()
nbformat.write(notebook, target)
"""


def _execute(folder):
  """Runs the notebook with a kernel of this interpreter; returns it."""
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
    "XLA_FLAGS": "",  # one device, as a reader has it
  }
  target = folder / "executed.ipynb"
  done = subprocess.run(
    [sys.executable, "-c", EXECUTE, str(PATH), str(FOLDER), str(target)],
    env=environment,
    capture_output=True,
    text=True,
    timeout=600,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return nbformat.read(target, as_version=4)


def test_it_runs_and_the_loss_falls(tmp_path):
  cells = _execute(tmp_path).cells
  outputs = [out for cell in cells for out in cell.get("outputs", [])]
  assert not [out for out in outputs if out["output_type"] == "error"]
  assert any("image/png" in out.get("data", {}) for out in outputs)
  text = "".join(out.get("text", "") for out in outputs)
  losses = [float(x) for x in re.findall(r"to \d+: loss ([0-9.]+)", text)]
  assert len(losses) == 4
  assert losses[-1] < losses[0] - 0.05
  assert "online loss" in text


def test_it_is_committed_without_outputs():
  notebook = nbformat.read(PATH, as_version=4)
  nbformat.validate(notebook)
  code = [cell for cell in notebook.cells if cell.cell_type == "code"]
  assert all(not c.outputs and c.execution_count is None for c in code)
  assert notebook.cells[0].source.startswith("[![Open In Colab]")
