"""Loads finished runs and checkpoints; evaluates runs (`jalign evaluate`)."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jalign import data
from jalign.errors import UserError
from jalign.evaluation import likelihood
from jalign.evaluation.clustered import clustered_mean
from jalign.evaluation.win_rate import WinRate, win_rate
from jalign.experiment import identity
from jalign.experiment.answers import sampled_answers
from jalign.experiment.commands.evaluate_scorer import evaluate_scorer
from jalign.experiment.config.parse import parse
from jalign.experiment.data.prepare import prepare
from jalign.experiment.disk import folder as folders
from jalign.experiment.disk.start import is_checkpoint
from jalign.experiment.plugins import load_annotator
from jalign.experiment.policies import Loaded, load_run
from jalign.experiment.sampling import sample_texts
from jalign.experiment.scorer import is_scorer
from jalign.feedback import Assessed, assess, compare, reward_statistics
from jalign.feedback.counts import say_counts
from jalign.sharding import make_mesh, place
from jalign.training.kinds import PAIRS
from jalign.training.progress import follow


def evaluate_run(
  run: pathlib.Path,
  against: pathlib.Path | None,
  path: str = "",
  columns: Mapping[str, str] | None = None,
) -> str:
  """Evaluates a run on held-out data.

  Args:
    run: folder of the run.
    against: folder of another run to compare with, or None.
    path: file of pairs to score instead of the run's own held-out pairs; all
      its pairs are used. "" for the run's own.
    columns: the file's names for the source's fields; None for the config's.

  Returns:
    The results as text.

  Raises:
    UserError: a folder is not a run; or the data is bad.
  """
  if is_checkpoint(run):
    raise UserError(
      "this is a checkpoint, not a run.",
      where=str(run),
      remedy="`jalign score` takes checkpoints.",
    )
  if is_scorer(run):
    if against is not None:
      raise UserError(
        "policies are compared, and this run trained a score head.",
        where="--against",
        remedy="Evaluate each run by itself, on the same --data.",
      )
    return "\n".join(evaluate_scorer(run, path, columns))
  config: dict[str, Any] = folders.read_json(run / "config.json")
  settings = parse(config)
  mesh = make_mesh()
  lines: list[str] = []
  with jax.set_mesh(mesh):
    loaded = load_run(run, mesh)
    prepared = prepare(settings, run, None)
    prepared.main.check(PAIRS, f"{run}: config.data")
    judged = against is not None
    changed = identity.changed_since(run, settings, prepared, judged=judged)
    if changed:
      lines.append(f"changed since the run began: {', '.join(changed)}")
    if path:
      if columns:
        own = dataclasses.replace(settings.data, columns=(*columns.items(),))
        settings = dataclasses.replace(settings, data=own)
      prepared = prepared.with_pairs(path, settings)
      lines += prepared.lines
    size = settings.stages[-1].batch_size

    def score(which: Loaded) -> likelihood.PairScores:
      return likelihood.make_scorer(which.model)(
        which.params,
        follow(
          prepared.main.loader(PAIRS, "eval", size, epochs=1, shuffle=False),
          "held-out pairs",
          "batch",
        ),
        lambda record: place(record, mesh),
      )

    scores = score(loaded)
    groups = prepared.main.groups(scores.sources)
    lines.append(
      f"{run} ({loaded.stage}): {len(scores.sources)} held-out pairs"
    )
    lines.append(
      _line("ranking accuracy", likelihood.ranking_accuracy(scores, groups))
    )
    lines.append(
      _line(
        "per-token ranking accuracy",
        likelihood.ranking_accuracy_per_token(scores, groups),
      )
    )
    if against is not None:
      other = load_run(against, mesh)
      check_same_tokenizer(loaded.tokenizer, other.tokenizer, str(against))
      lines.append(
        _line(
          f"reward accuracy over {against}",
          likelihood.reward_accuracy(scores, score(other), groups),
        )
      )
      annotator = load_annotator(settings)
      if annotator is not None:
        prompts = prepared.main.sample_prompts(settings.sample.prompts)
        a, b = (
          sample_texts(
            which.model,
            which.params,
            which.tokenizer,
            prompts,
            settings.sample,
            seed=seed,
            keep_tokens=annotator.reads_tokens,
            description="samples",
          )
          for which, seed in ((loaded, 0), (other, 1))
        )
        seen = [
          assess(annotator, sampled_answers(x, prepared.main)) for x in (a, b)
        ]
        rate = win_rate(compare(annotator, *seen), a.prompt_ids)
        lines.append(_line(f"win rate over {against}", rate))
        say_counts(annotator)
        for which, assessed in zip((run, against), seen):
          lines += _rewards(f"of {which}", assessed, a.prompt_ids)
  return "\n".join(lines)


def _line(name: str, rate: WinRate) -> str:
  low, high = (100 * x for x in rate.interval)
  unanswered = f"; {rate.missing} without an answer" if rate.missing else ""
  return (
    f"  {name}: {100 * rate.win_rate:.1f} %"
    f" (95 % interval {low:.1f} to {high:.1f}, {rate.prompts} prompts"
    f"{unanswered})"
  )


def _rewards(whose: str, assessed: Assessed, prompt_ids: Any) -> list[str]:
  """Lines on the samples' rewards and costs, if the judge gives them."""
  statistics, lines = reward_statistics(assessed, prompt_ids), []
  for name in ("reward", "cost"):
    if f"{name}_mean" not in statistics:
      continue
    numbers = assessed.numbers(name)
    answered = ~np.isnan(numbers)
    mean = clustered_mean(numbers[answered], prompt_ids[answered])
    low, high = mean.interval
    line = f"  {name} {whose}: {mean.mean:.3g}"
    line += f" (95 % interval {low:.3g} to {high:.3g}"
    if f"{name}_std" in statistics:
      line += f"; sd {statistics[f'{name}_std']:.3g}"
    if f"{name}_std_within_prompt" in statistics:
      line += f", within a prompt {statistics[f'{name}_std_within_prompt']:.3g}"
    lines.append(line + ")")
  return lines


def check_same_tokenizer(
  mine: data.Tokenizer, other: data.Tokenizer, where: str
) -> None:
  """Raises UserError if two tokenizers differ; `where` names the other one."""
  if mine.backend.to_str() != other.backend.to_str():
    raise UserError(
      "this model has another tokenizer: log-probs can't be compared.",
      where=where,
      remedy="Compare models with the same tokenizer, e.g. by init_from.",
    )
