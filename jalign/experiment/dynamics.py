"""`jalign report`: one page on what training did, for one run or several."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from jalign.diagnostics import reversal
from jalign.errors import UserError
from jalign.evaluation.dynamics import Dynamics, plot_dynamics
from jalign.evaluation.report import Figure, Section, Table, write_report
from jalign.experiment import folder as folders
from jalign.experiment import lock
from jalign.experiment.loss import beta_of, bind
from jalign.experiment.parse import parse
from jalign.experiment.probe import PAIRS_FILE
from jalign.files import check_output, is_unfinished, telling
from jalign.training.metrics import read_jsonl

FOLDER = "dynamics"  # of the page, in the run's folder
PAGE = "report.html"
_KEPT = "A page that was there is kept as far as nothing new is."
# What the table says of each run: metric, column, factor, format.
_COLUMNS = (
  ("likelihood/chosen_log_ratio_nats", "chosen log pi/ref (nats)", 1, ".2f"),
  ("likelihood/rejected_log_ratio_nats", "rejected (nats)", 1, ".2f"),
  ("likelihood/displaced_share", "displaced (%)", 100, ".0f"),
  ("likelihood/ranking_accuracy", "ranking (%)", 100, ".1f"),
  ("likelihood/idealised_accuracy", "idealised (%)", 100, ".1f"),
  ("likelihood/reward_accuracy", "reward (%)", 100, ".1f"),
  ("likelihood/calibration_ece", "ECE", 1, ".3f"),
  ("entanglement/all/cosine", "cosine", 1, ".3f"),
  ("entanglement/all/ideal_share", "ideal (%)", 100, ".0f"),
  ("entanglement/realised/as_forecast_share", "as forecast (%)", 100, ".0f"),
  ("policy/top_k_entropy_bits", "top-k entropy (bits)", 1, ".3f"),
  ("policy/top_k_mass", "top-k mass", 1, ".4f"),
  ("samples/kl_k1_nats", "KL of samples (nats)", 1, ".2f"),
)
_TURNS = ("policy/top_k_entropy_bits", "policy/top_k_mass")

_NOTES = (
  "Chosen responses are drawn solid, rejected ones dashed. *Log-probs*: mean "
  "over the probe's pairs, with the middle 80 % of the pairs for a single run. "
  "*Entanglement*: mean cosine of the gradients of a pair's two log-probs; a "
  "step of SGD on the pair raises the chosen and lowers the rejected response "
  "if and only if the cosine is below the threshold. *Forecast*: the case of "
  "each pair by that law, before the step; *what a step did* is the real "
  "optimiser's, on a batch of other pairs. Triangles mark where an indicator "
  "of over-optimisation has turned. *Accuracies*: ranking by the policy alone, "
  "by its implicit reward, and what the optimum of the loss would rank. "
  "*Calibration*: bins of equally many pairs at the last probe."
)


def report_runs(
  runs: Sequence[pathlib.Path],
  out: pathlib.Path | None = None,
  stage: str = "",
) -> pathlib.Path:
  """Writes the page.

  Args:
    runs: folders of runs, or of sweeps, whose runs are taken.
    out: folder of the page; None for `dynamics/` in the folder of one run.
    stage: to look at; "" takes each run's last one that has begun.

  Returns:
    The path of its web page.

  Raises:
    UserError: a folder is no run, a run has no such stage, nothing was
      measured, or several runs have no folder to go to.
  """
  if out is None:
    if len(runs) > 1:
      raise UserError("several runs need --out=DIR.")
    out = runs[0] / FOLDER
  else:
    _check_out(out)
  inside = [one for run in runs for one in _inside(run)]
  with lock.hold(out, "--out"), telling(out, lambda: _KEPT, again=""):
    return _written(inside, out, stage)


def _check_out(out: pathlib.Path) -> None:
  """Refuses a folder where something other than a page is."""
  check_output(out / PAGE, "--out", {})
  real = out.resolve()
  for folder in (real, *real.parents):
    if (folder / "run.json").exists() and real != folder / FOLDER:
      raise UserError(
        f"lies in the folder of the run {folder}.",
        where=f"--out={out}",
        remedy="Name a folder of its own.",
      )
  own = {PAGE, "report.md", "plots", lock.NAME}
  there = {p.name for p in real.iterdir()} if real.exists() else set()
  strange = [n for n in sorted(there - own) if not is_unfinished(n)]
  if strange:
    raise UserError(
      f"holds other things than a page, {strange[0]} for one.",
      where=f"--out={out}",
      remedy="Name a new folder.",
    )


def _written(
  runs: Sequence[pathlib.Path], out: pathlib.Path, stage: str
) -> pathlib.Path:
  found = {name: _dynamics(folder, stage) for name, folder in _named(runs)}
  title = f"Dynamics of {', '.join(found)}" if len(found) < 4 else "Dynamics"
  figure = plot_dynamics(found, out / "plots" / "dynamics.png")
  sections = [
    Section("What training did", [Figure(figure, ""), _NOTES]),
    Section("At the last probe", _table(found)),
  ]
  page = write_report(out, title=title, sections=sections)
  return page.with_suffix(".html")


def _inside(run: pathlib.Path) -> list[pathlib.Path]:
  """A run, or the runs of a sweep."""
  if (run / "run.json").exists():
    return [run]
  found = sorted(path.parent for path in run.glob("*/run.json"))
  if not found:
    raise UserError(
      "is neither a run nor a sweep.",
      where=str(run),
      remedy="Name the --workdir of a `jalign train`.",
    )
  return found


def _named(folders_: Sequence[pathlib.Path]):
  """(short different name, folder) of each run."""
  parts = [folder.resolve().parts for folder in folders_]
  depth = 1
  while len({p[-depth:] for p in parts}) < len(set(parts)):
    depth += 1
  return [("/".join(p[-depth:]), f) for p, f in zip(parts, folders_)]


def _dynamics(run: pathlib.Path, stage: str) -> Dynamics:
  settings = parse(folders.read_json(run / "config.json"))
  names = folders.stages_of(run)
  if stage and stage not in names:
    raise UserError(
      f"has no stage {stage!r}.",
      where=str(run),
      remedy=f"There are: {', '.join(names)}.",
    )
  folder = run / stage if stage else folders.last_stage(run)
  rows = read_jsonl(folder / "metrics.jsonl")
  path, pairs = folder / PAIRS_FILE, {}
  if path.exists():
    with np.load(path, allow_pickle=False) as arrays:
      pairs = dict(arrays)
  return Dynamics(rows, pairs, beta_of(bind(settings.stage(folder.name))))


def _table(found: dict[str, Dynamics]) -> Table:
  """The last value of what was measured, and where indicators turned."""
  columns = [c for c in _COLUMNS if any(d.curve(c[0]) for d in found.values())]
  turns = [key for key in _TURNS if any(d.curve(key) for d in found.values())]
  label = {key: name for key, name, *_ in _COLUMNS}
  rows: list[tuple[Any, ...]] = []
  for name, run in found.items():
    cells = []
    for key, _, factor, form in columns:
      curve = run.curve(key)
      cells.append("" if curve is None else f"{factor * curve[1][-1]:{form}}")
    for key in turns:
      curve = run.curve(key)
      turn = None if curve is None else reversal(curve[1], falls=True)
      at = "" if curve is None or turn is None else str(curve[0][turn])
      cells.append(at)
    rows.append((name, *cells))
  header = ("run", *(name for _, name, *_ in columns))
  return Table(
    (
      *header,
      *(f"{label[key].split(' (')[0]} turned at step" for key in turns),
    ),
    rows,
  )
