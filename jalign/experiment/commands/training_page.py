"""`jalign report`: a page on what training did, for one run or for several."""

import json
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from jalign import glossary
from jalign.diagnostics import reversal
from jalign.errors import UserError
from jalign.experiment.config.parse import parse
from jalign.experiment.disk import folder as folders
from jalign.experiment.disk import lock
from jalign.experiment.loss import beta_of, bind
from jalign.experiment.probe import PAIRS_FILE
from jalign.experiment.recipe import recipe, recipes
from jalign.files import check_output, is_unfinished, telling
from jalign.pages.dynamics import Dynamics, plot_dynamics
from jalign.pages.report import Figure, Section, Table, write_report
from jalign.pages.style import FORMATS
from jalign.training.metrics import RESERVED, read_jsonl

FOLDER = "dynamics"  # folder of the page in the run's folder
PAGE = "report.html"
_KEPT = "Files of an earlier page are kept unless new ones have replaced them."
# Rows of the table: metrics, of which the first one measured counts; label,
# factor, format.
_LINES = (
  (
    ("likelihood/chosen_log_ratio_nats", "eval/chosen_log_ratio_nats"),
    "chosen log pi/ref (nats)",
    *(1, ".2f"),
  ),
  (
    ("likelihood/rejected_log_ratio_nats", "eval/rejected_log_ratio_nats"),
    "rejected log pi/ref (nats)",
    *(1, ".2f"),
  ),
  (("likelihood/displaced_share",), "displaced (%)", 100, ".0f"),
  (
    ("likelihood/ranking_accuracy", "eval/ranking_accuracy"),
    "ranking accuracy (%)",
    *(100, ".1f"),
  ),
  (("likelihood/idealised_accuracy",), "idealised (%)", 100, ".1f"),
  (
    ("likelihood/reward_accuracy", "eval/reward_accuracy"),
    "reward accuracy (%)",
    *(100, ".1f"),
  ),
  (("likelihood/calibration_ece",), "calibration error", 1, ".3f"),
  (("entanglement/all/cosine",), "cosine", 1, ".3f"),
  (("entanglement/all/ideal_share",), "ideal (%)", 100, ".0f"),
  (
    ("realised/as_forecast_share",),
    "as forecast (%)",
    *(100, ".0f"),
  ),
  (("policy/top_k_entropy_bits",), "top-k entropy (bits)", 1, ".3f"),
  (("policy/top_k_mass",), "top-k mass", 1, ".4f"),
  (("samples/kl_k1_nats",), "KL of samples (nats)", 1, ".2f"),
  (
    ("samples/win_rate",),
    "win rate over the start (%)",
    *(100, ".1f"),
  ),
  (("samples/reward_mean",), "reward, mean", 1, ".3g"),
  (("samples/reward_std",), "reward, sd", 1, ".3g"),
  (("rollouts/reward_mean",), "reward in training, mean", 1, ".3g"),
  (("rollouts/reward_std",), "reward in training, sd", 1, ".3g"),
  (
    ("rollouts/reward_std_within_prompt",),
    "reward in training, sd within a prompt",
    *(1, ".3g"),
  ),
)
_TURNS = (
  ("policy/top_k_entropy_bits", "top-k entropy turned at step"),
  ("policy/top_k_mass", "top-k mass turned at step"),
)

_NOTES = (
  "*Log-probs*: mean over the pairs, each against the policy that its run "
  "started from, with the middle 80 % of the probe's pairs for a single run, "
  "or of training batches where nothing was measured on held-out pairs. "
  "*Entanglement*: mean cosine of the gradients of a pair's two log-probs; a "
  "step of SGD on the pair raises the chosen and lowers the rejected response "
  "if and only if the cosine is below the threshold (dotted). The gradients "
  "are those of all parameters on the probe's pairs; where only "
  "`config.diagnostics.entanglement=step` measured, they are the last layer's "
  "on training batches. *Forecast*: the case of "
  "each pair by that law, before the step; *what a step did* is the real "
  "optimiser's, on a batch of other pairs. Triangles mark where an indicator "
  "of over-optimisation has turned. *Accuracies*: ranking by the policy alone, "
  "by its implicit reward, and what the optimum of the loss would rank. "
  "*Calibration*: bins of equally many pairs at the last probe, 10 of them, or "
  "5 of fewer than 100 pairs; a bin of few pairs may lie far from the line by "
  "chance. Calibration and the idealised accuracy need a loss with a beta that "
  "turns log-ratios into rewards, and are empty for other losses. *Gain and "
  "distance*: samples while training, to the last of them, the larger dot; KL "
  "is estimated on few samples and may come out below 0. *Reward*: of one run "
  "with a standard deviation each way. Equal curves hide each other: the run "
  "that is named later is on top."
)


def report_runs(
  runs: Sequence[pathlib.Path],
  out: pathlib.Path | None = None,
  stage: str = "",
  kind: str = "png",
) -> pathlib.Path:
  """Writes the page.

  Args:
    runs: folders of runs, or of sweeps, whose runs are all taken.
    out: folder of the page; None for `dynamics/` in the folder of one run.
    stage: name of the stage to look at; "" takes each run's last stage that has
      begun.
    kind: "pdf" or "svg" for a vector file of the plot beside the page's own;
      "png" for none.

  Returns:
    The path of the web page.

  Raises:
    UserError: a folder is no run, a run has no such stage, nothing was
      measured, several runs are given without `out`, or the kind is unknown.
  """
  if kind not in FORMATS:
    raise UserError(
      f"{kind!r} is not one of {', '.join(FORMATS)}.", where="--format"
    )
  if out is None:
    if len(runs) > 1:
      raise UserError("several runs need --out=DIR.")
    out = runs[0] / FOLDER
  else:
    _check_out(out)
  inside = [stage_folder for run in runs for stage_folder in _inside(run)]
  with lock.hold(out, "--out"), telling(out, lambda: _KEPT, again=""):
    return _written(inside, out, stage, kind)


def _check_out(out: pathlib.Path) -> None:
  """Raises UserError for a folder that holds something other than a page."""
  check_output(out / PAGE, "--out", {})
  real = out.resolve()
  for folder in (real, *real.parents):
    if (folder / "run.json").exists() and real != folder / FOLDER:
      raise UserError(
        f"this folder lies in the folder of the run {folder}.",
        where=f"--out={out}",
        remedy="Name another folder for the page.",
      )
  own = {PAGE, "report.md", "plots", lock.NAME}
  there = {p.name for p in real.iterdir()} if real.exists() else set()
  strange = [n for n in sorted(there - own) if not is_unfinished(n)]
  if strange:
    raise UserError(
      f"the folder holds other things than a page, such as {strange[0]}.",
      where=f"--out={out}",
      remedy="Name a new folder.",
    )


def _written(
  runs: Sequence[pathlib.Path], out: pathlib.Path, stage: str, kind: str
) -> pathlib.Path:
  curves = {name: _dynamics(folder, stage) for name, folder in _named(runs)}
  _check_names(curves)
  title = f"Dynamics of {', '.join(curves)}" if len(curves) < 4 else "Dynamics"
  at = out / "plots" / "dynamics.png"
  figure = plot_dynamics(curves, at)
  for other in FORMATS:  # left by an earlier page
    if other != "png":
      at.with_suffix(f".{other}").unlink(missing_ok=True)
  if kind != "png":
    plot_dynamics(curves, at.with_suffix(f".{kind}"))
  caption = " ".join(
    [f"{title}: how each quantity changed over training.", _starts(curves)]
  )
  sections = [
    Section("Runs", recipes({n: run.recipe for n, run in curves.items()})),
    Section("What training did", [Figure(figure, caption.strip()), _NOTES]),
    Section("At the last measurement", [_table(curves), _unknown(curves)]),
  ]
  page = write_report(out, title=title, sections=sections)
  return page.with_suffix(".html")


def _strangers(run: Dynamics) -> list[str]:
  """Names of a run's metrics that no row of the glossary has."""
  names = dict.fromkeys(name for row in run.rows for name in row)
  return glossary.strangers(n for n in names if n not in RESERVED)


def _check_names(curves: Mapping[str, Dynamics]) -> None:
  """Raises UserError if the glossary has none of a run's metrics."""
  for name, run in curves.items():
    measured = {key for row in run.rows for key in row} - set(RESERVED)
    if measured and len(_strangers(run)) == len(measured):
      raise UserError(
        f"no metric has a name of the glossary: {_some(sorted(measured))}.",
        where=f"{name}: metrics.jsonl",
        remedy="Report it with the jalign that trained it, or train it again.",
      )


def _unknown(curves: Mapping[str, Dynamics]) -> str:
  """A line on metrics that the glossary doesn't have; "" if it has all."""
  names = dict.fromkeys(n for run in curves.values() for n in _strangers(run))
  if not names:
    return ""
  return (
    f"Not shown, because the glossary has no such names: {_some(list(names))}."
    " They are of a kind of batch or of an algorithm of the run's own, or an"
    " earlier jalign wrote them."
  )


def _some(names: Sequence[str], most: int = 8) -> str:
  listed = ", ".join(f"`{name}`" for name in names[:most])
  more = len(names) - most
  return f"{listed} and {more} more" if more > 0 else listed


def _starts(curves: Mapping[str, Dynamics]) -> str:
  """The caption for runs that began at different policies; else ""."""
  groups: dict[str, list[str]] = {}
  for name, run in curves.items():
    groups.setdefault(run.start or f"of {name}", []).append(name)
  if len(groups) < 2:
    return ""
  listed = "; ".join(
    f"{i} of {', '.join(names)}"
    + ("" if curves[names[0]].start else " (not known: nothing is saved yet)")
    for i, names in enumerate(groups.values(), 1)
  )
  return (
    "These runs started from different policies, and log-ratios, KL, rewards"
    f" gained and win rates are over a run's own: start {listed}."
  )


def _inside(run: pathlib.Path) -> list[pathlib.Path]:
  """The run's own folder, or the folders of a sweep's runs."""
  if (run / "run.json").exists():
    return [run]
  inside = sorted(path.parent for path in run.glob("*/run.json"))
  if not inside:
    raise UserError(
      "the folder is neither a run nor a sweep.",
      where=str(run),
      remedy="Name the --workdir of a `jalign train`.",
    )
  return inside


def _named(folders_: Sequence[pathlib.Path]):
  """(short name, folder) of each run; all names differ."""
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
      f"the run has no stage {stage!r}.",
      where=str(run),
      remedy=f"Its stages are: {', '.join(names)}.",
    )
  folder = run / stage if stage else folders.last_stage(run)
  rows = read_jsonl(folder / "metrics.jsonl")
  path, pairs = folder / PAIRS_FILE, {}
  if path.exists():
    with np.load(path, allow_pickle=False) as arrays:
      pairs = dict(arrays)
  # The temperature is for pairs; without them, nobody asks for the loss.
  trained = settings.stage(folder.name)
  beta = beta_of(bind(trained)) if pairs else None
  how = recipe(settings, trained, folders.model_of(run), rows)
  return Dynamics(rows, pairs, beta, _start(folder), how)


def _start(folder: pathlib.Path) -> str:
  """Fingerprint of what a stage started from; "" if none can be read.

  The checkpoint is not checked for damage, since that would read all of it.
  """
  steps = folder / "checkpoints"
  for step in sorted(steps.iterdir()) if steps.is_dir() else ():
    try:
      meta = json.loads((step / "meta" / "metadata").read_bytes())
      return str(meta["start"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
      continue
  return ""


def _table(dynamics: Mapping[str, Dynamics]) -> Table:
  """The last values of what was measured, and steps where indicators turned.

  The side with fewer entries, runs or quantities, makes the columns, so that
  the table is seen without scrolling.
  """
  lines: list[tuple[str, list[str]]] = []
  for keys, label, factor, form in _LINES:
    curves = [run.curve(*keys) for run in dynamics.values()]
    if any(curves):
      values = [f"{factor * c[1][-1]:{form}}" if c else "" for c in curves]
      lines.append((label, values))
  for key, label in _TURNS:
    curves = [run.curve(key) for run in dynamics.values()]
    if any(curves):
      lines.append((label, [_turn(curve) for curve in curves]))
  if len(dynamics) <= len(lines):
    return Table(
      ("quantity", *dynamics), [(label, *values) for label, values in lines]
    )
  columns = [values for _, values in lines]
  return Table(
    ("run", *(label for label, _ in lines)), list(zip(dynamics, *columns))
  )


def _turn(curve) -> str:
  """The step at which an indicator turned; "" if it hasn't."""
  turn = None if curve is None else reversal(curve[1], falls=True)
  return "" if turn is None else str(curve[0][turn])
