"""`jalign rewards`: implicit and explicit rewards on the same pairs.

Lin et al. 2024, "On the Limited Generalization Capability of the Implicit
Reward Model Induced by Direct Preference Optimization", arXiv:2409.03650.
"""

import dataclasses
import gc
import itertools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jalign.diagnostics import compare_rewards
from jalign.errors import UserError
from jalign.evaluation import ScoredPairs, from_margins, likelihood
from jalign.evaluation.clustered import Mean
from jalign.evaluation.reward_accuracy import accuracy, summary
from jalign.experiment import reward_pairs, scorer
from jalign.experiment.config.parse import parse
from jalign.experiment.data.dataset import Dataset
from jalign.experiment.data.prepare import Prepared, prepare
from jalign.experiment.disk import folder as folders
from jalign.experiment.disk import lock
from jalign.experiment.disk.start import is_checkpoint
from jalign.experiment.loss import beta_of, bind
from jalign.experiment.params import parameters_before, trained_params
from jalign.files import telling
from jalign.hosts import say
from jalign.models import transformer
from jalign.pages import plots
from jalign.pages.contents import with_ends
from jalign.pages.report import Figure, Section, Table, write_report
from jalign.pages.reward_model import reward_model_section
from jalign.sharding import make_mesh, place
from jalign.training.kinds import PAIRS
from jalign.training.progress import follow

HELD_OUT = "held-out pairs"
_ROWS = 32  # pairs of a batch
_NOTES = (
  "An explicit reward is the score of a run that trained a score head. An"
  " implicit reward is beta log pi / ref of a run that trained a policy, over"
  " the policy that its last stage started from. Both are asked about the same"
  " pairs, so a difference of accuracies is taken pair by pair, and its"
  " interval is that of paired comparisons, clustered by prompt."
)


class Scores(NamedTuple):
  """What a run says of pairs.

  Attributes:
    kind: "explicit" or "implicit (beta = 0.1)", for example.
    pairs: name of a set of pairs -> the numbers.
  """

  kind: str
  pairs: Mapping[str, ScoredPairs]


def compare_runs(
  runs: Sequence[pathlib.Path],
  out: pathlib.Path,
  data: Sequence[str] = (),
  columns: Mapping[str, str] | None = None,
) -> pathlib.Path:
  """Writes a page that compares the rewards of runs.

  Args:
    runs: folders of runs: reward models, preference models, and policies.
    out: folder of the page, which doesn't exist yet.
    data: files of further pairs, such as pairs from another source.
    columns: these files' names for the source's fields; None for the configs'.

  Returns:
    The path of the web page.

  Raises:
    UserError: a folder isn't a finished run on pairs; the runs hold out other
      pairs; or the data is bad.
  """
  if out.exists() and any(p.name != lock.NAME for p in out.iterdir()):
    raise UserError(
      "the folder isn't empty.", where=f"--out={out}", remedy="Name a new one."
    )
  names = _named(runs)
  with lock.hold(out, "--out"), telling(out, lambda: "", again=""):
    scored = {name: _scores(run, data, columns) for name, run in names.items()}
    sets = _same_pairs(scored)
    folders.write_json(
      out / "rewards.json",
      {
        name: {run: summary(pairs) for run, pairs in of.items()}
        for name, of in sets.items()
      },
    )
    sections = [_overview(scored, sets, out)]
    for i, (name, of) in enumerate(sets.items(), 1):
      section = reward_model_section(
        of, out, title=f"On {name}", name=f"rewards_{i}"
      )
      paired = _differences(of)
      more = [paired] if len(of) > 1 else []
      sections.append(Section(section.title, [*more, *section.content]))
    page = write_report(
      out, title="Implicit and explicit rewards", sections=sections
    )
  return page.with_suffix(".html")


def _named(runs: Sequence[pathlib.Path]) -> dict[str, pathlib.Path]:
  """Different short names of the runs' folders."""
  parts = [run.resolve().parts for run in runs]
  if len(set(parts)) < len(parts):
    raise UserError("a run is named twice.", where="RUN")
  depth = 1
  while len({p[-depth:] for p in parts}) < len(parts):
    depth += 1
  return {"/".join(p[-depth:]): run for p, run in zip(parts, runs)}


def _scores(
  run: pathlib.Path, data: Sequence[str], columns: Mapping[str, str] | None
) -> Scores:
  """What a run says of its held-out pairs and of the pairs of files."""
  if is_checkpoint(run):
    raise UserError(
      "this is a checkpoint, not a run.",
      where=str(run),
      remedy="`jalign score` takes checkpoints.",
    )
  settings = parse(folders.read_json(run / "config.json"))
  mesh = make_mesh()
  with jax.set_mesh(mesh):
    prepared = prepare(settings, run, None)
    prepared.main.check(PAIRS, f"{run}: config.data")
    kind, ask = (
      _explicit(run, mesh) if scorer.is_scorer(run) else _implicit(run, mesh)
    )
    say(f"[rewards] {run}: {kind}")
    found = {HELD_OUT: ask(prepared.main)}
    if columns:
      own = dataclasses.replace(settings.data, columns=(*columns.items(),))
      settings = dataclasses.replace(settings, data=own)
    for path in data:
      there: Prepared = prepared.with_pairs(path, settings)
      say("\n".join(f"[rewards] {line}" for line in there.lines))
      found[path] = ask(there.main)
  del ask
  gc.collect()  # the next run's parameters need the room
  return Scores(kind, found)


def _explicit(
  run: pathlib.Path, mesh: jax.sharding.Mesh
) -> tuple[str, Callable[[Dataset], ScoredPairs]]:
  own = scorer.load_scorer(str(run), mesh)
  score = reward_pairs.make_scored_pairs(
    own.model,
    own.head,
    form=own.form,
    constant=own.constant,
    sign=own.sign,
  )

  def ask(dataset: Dataset) -> ScoredPairs:
    if not reward_pairs.serves(dataset, own.head):
      raise UserError(
        "this head gives no scores or preferences of pairs.", where=str(run)
      )
    return score(own.params, dataset, _ROWS, mesh)

  return "explicit", ask


def _implicit(
  run: pathlib.Path, mesh: jax.sharding.Mesh
) -> tuple[str, Callable[[Dataset], ScoredPairs]]:
  config, stage = folders.model_of(run), folders.last_stage(run)
  settings = parse(folders.read_json(run / "config.json"))
  beta = beta_of(bind(settings.stage(stage.name)))
  score = likelihood.make_scorer(transformer(config))
  both = [
    read(config, mesh, stage) for read in (trained_params, parameters_before)
  ]

  def ask(dataset: Dataset) -> ScoredPairs:
    mine, start = (
      score(
        params,
        follow(
          dataset.loader(PAIRS, "eval", _ROWS, epochs=1, shuffle=False),
          "log-probs of pairs",
          "batch",
        ),
        lambda record: place(record, mesh),
      )
      for params in both
    )
    labels = {pair.source: pair.preference for pair in dataset.held_out}
    ratio = (mine.chosen - start.chosen) - (mine.rejected - start.rejected)
    own = [labels[source] for source in mine.sources]
    known = np.array([1.0 if label is None else label for label in own])
    pairs = from_margins(
      ratio * (1.0 if beta is None else beta),
      labels=known,
      exact=reward_pairs.exact_of(known),
      chosen_tokens=mine.chosen_tokens,
      rejected_tokens=mine.rejected_tokens,
      groups=dataset.groups(mine.sources),
    )
    return dataclasses.replace(pairs, sources=mine.sources)

  if beta is None:
    return "implicit (its loss has no beta: taken as 1)", ask
  return f"implicit (beta = {beta:g})", ask


def _same_pairs(
  scored: Mapping[str, Scores],
) -> dict[str, dict[str, ScoredPairs]]:
  """Set of pairs -> run -> its numbers, in one order.

  Raises:
    UserError: the runs hold out other pairs.
  """
  first_run, first = next(iter(scored.items()))
  sets: dict[str, dict[str, ScoredPairs]] = {}
  for name, pairs in first.pairs.items():
    wanted = sorted(pairs.sources)
    for run, other in scored.items():
      there = other.pairs[name]
      if sorted(there.sources) != wanted:
        raise UserError(
          f"{first_run} and {run} hold out other pairs: {len(pairs):,} and"
          f" {len(there):,}, of which"
          f" {len(set(wanted) & set(there.sources)):,} are the same.",
          where="RUN",
          remedy="Train the runs on the same data with the same split_seed.",
        )
      order = np.argsort(np.array(there.sources), kind="stable")
      sets.setdefault(name, {})[run] = there.take(order)
  return sets


def _overview(
  scored: Mapping[str, Scores], sets: Mapping[str, Any], out: pathlib.Path
) -> Section:
  """Accuracies of all runs on all sets of pairs."""
  looks = plots.run_colours(list(scored))
  bars: dict[str, tuple[float, float, float]] = {}
  colours = {}
  # A label as long as a path would leave no room for the bars.
  short = {name: pathlib.PurePath(name).name for name in sets}
  if len(set(short.values())) < len(short):
    short = {name: f"{i}: {x}" for i, (name, x) in enumerate(short.items(), 1)}
  for name, of in sets.items():
    for run, pairs in of.items():
      bar = f"{run}, {short[name]}" if len(sets) > 1 else run
      mean = accuracy(pairs)
      low, high = (100 * x for x in mean.interval)
      bars[bar] = (100 * mean.mean, low, high)
      colours[bar] = looks[run]
  path = plots.plot_bars_with_intervals(
    bars,
    out / "plots" / "accuracy.png",
    xlabel="accuracy, % (95 % interval, clustered by prompt)",
    reference=50,
    looks=colours,
  )
  table = Table(
    ("run", "reward", *sets),
    [
      (run, of.kind, *(_share(accuracy(sets[name][run])) for name in sets))
      for run, of in scored.items()
    ],
  )
  counts = ", ".join(
    f"{len(next(iter(of.values()))):,} on {name}" for name, of in sets.items()
  )
  return Section(
    "Accuracies",
    [
      table,
      Figure(path, f"Accuracy of each run's reward. Pairs: {counts}."),
      _NOTES,
    ],
  )


def _differences(of: Mapping[str, ScoredPairs]) -> Table:
  """The difference of the accuracies of each two runs, pair by pair."""
  rows = []
  for a, b in itertools.combinations(of, 2):
    both = compare_rewards(of[a].margins, of[b].margins, of[a].groups)
    low, high = (100 * x for x in both.difference.interval)
    rows.append(
      (
        f"{b} less {a}",
        with_ends(100 * both.difference.mean, low, high, form="+.1f"),
        f"{100 * both.agreement:.1f} %",
      )
    )
  return Table(("runs", "difference (points)", "rank alike"), rows)


def _share(mean: Mean) -> str:
  low, high = mean.interval
  return with_ends(100 * mean.mean, 100 * low, 100 * high, unit=" %")
