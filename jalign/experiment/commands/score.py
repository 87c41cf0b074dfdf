"""`jalign score`: log-probs, entropies, implicit rewards; or models' scores.

Rows go to a parquet file as they are computed, and the vocabulary is streamed,
so memory doesn't grow with the data's length or with the vocabulary.
"""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

import jalign
from jalign import data
from jalign.data.columns import Columns
from jalign.errors import UserError
from jalign.experiment.commands.evaluate_scorer import told
from jalign.experiment.commands.inspect import (
  Loaded,
  check_same_tokenizer,
)
from jalign.experiment.commands.score_data import read_responses
from jalign.experiment.commands.score_models import (
  Margins,
  check_responses,
  labelled,
  model_rows,
  score_columns,
)
from jalign.experiment.commands.score_rows import by_policy, scored_rows
from jalign.experiment.commands.score_table import check_out, table
from jalign.experiment.disk.start import is_checkpoint
from jalign.experiment.policies import load_policy
from jalign.experiment.scorer import Scorer, is_scorer, load_scorer
from jalign.models import ModelConfig, hf
from jalign.sharding import make_mesh
from jalign.training.progress import Progress
from jalign.training.reference import fingerprint


class _Sums:
  """Sums over everything that was scored."""

  def __init__(self):
    self.responses = self.tokens = 0
    self.totals: dict[str, float] = {}
    self.margins: dict[str, list[float]] = {}
    self.labelled = Margins({}, [])

  def add_scored(
    self, rows: list[dict[str, Any]], names: Sequence[str], margins: Margins
  ) -> None:
    """Adds rows of a reward model or a preference model."""
    self.responses += len(rows)
    self.tokens += sum(row["response_tokens"] for row in rows)
    for name in names:
      total = sum(row[name] for row in rows)
      self.totals[name] = self.totals.get(name, 0.0) + total
      self.labelled.margins.setdefault(name, []).extend(margins.margins[name])
    self.labelled.groups.extend(margins.groups)

  def add(self, rows: list[dict[str, Any]]) -> None:
    self.responses += len(rows)
    self.tokens += sum(row["response_tokens"] for row in rows)
    for name in ("logprob", "implicit_reward"):
      if name not in rows[0]:
        continue
      total = sum(row[name] for row in rows)
      self.totals[name] = self.totals.get(name, 0.0) + total
      self.margins.setdefault(name, []).extend(
        a[name] - b[name]
        for a, b in zip(rows[:-1], rows[1:])
        if (a["name"], b["name"]) == ("chosen", "rejected")
      )
    if "entropy" in rows[0]:
      total = sum(row["entropy"] * row["response_tokens"] for row in rows)
      self.totals["entropy"] = self.totals.get("entropy", 0.0) + total


def score(
  model: str,
  path: str,
  out: pathlib.Path,
  *,
  reference: str = "",
  source: str = "",
  template: str = "",
  beta: float = 0.1,
  batch_size: int = 8,
  skip_bad_rows: bool = False,
  columns: Columns | None = None,
) -> list[str]:
  """Scores every response of a file under a model.

  Args:
    model: a run or a checkpoint, of a policy, or of a reward or preference
      model.
    path: data that `jalign data check` reads; none of it is cut.
    out: parquet file, written whole or not at all, with a row per response:
      where it comes from, and which of its row's responses it is; prompt and
      response as the model reads them; the response's tokens, their log-probs
      and the entropies of their distributions (nats), with the log-probs' sum
      and mean and the entropies' mean. A reward model has instead the column
      "score", or with several objectives "score_NAME" for each; a preference
      model has "preference", the mean probability that the response is
      preferred to the other responses of its row. The file's metadata has, as
      JSON under the key "jalign", what made it: models with hashes of their
      parameters, data, template.
    reference: another run or checkpoint with the same tokenizer. It adds its
      log-probs, and beta times the difference as the implicit reward (Rafailov
      et al. 2023, arXiv:2305.18290, equation 5, up to a constant of the
      prompt).
    source: name of a reader; "" guesses it.
    template: template of conversations; "" takes the model's own.
    beta: factor of the implicit reward.
    batch_size: number of responses at a time.
    skip_bad_rows: whether to leave out rows that can't be read, and say which.
    columns: the file's names for the source's fields.

  Returns:
    Lines that say what was done.

  Raises:
    UserError: something can't be read or written, the data has no responses,
      the tokenizers differ, or a number isn't finite.
  """
  if batch_size < 1:
    raise UserError("the value must be at least 1.", where="--batch_size")
  check_out(out, path)
  folder = hf.resolve(model)
  rewards = is_scorer(folder)
  if rewards and reference:
    raise UserError(
      "a reward model's scores have no reference.",
      where="--reference",
      remedy="Leave --reference out.",
    )
  mesh = make_mesh()
  with jax.set_mesh(mesh):
    other = load_policy(reference, mesh) if reference else None
    loaded: Loaded | Scorer = (
      load_scorer(model, mesh) if rewards else load_policy(model, mesh)
    )
    if other is not None:
      check_same_tokenizer(loaded.tokenizer, other.tokenizer, reference)
    read = read_responses(
      path,
      source,
      template,
      folder,
      loaded.tokenizer,
      closed=rewards
      and is_checkpoint(folder)
      and hf.read_reward_head(folder).tail,
      skip_bad_rows=skip_bad_rows,
      columns=columns,
    )
    for config in (loaded.config, other.config if other else None):
      _check_positions(config, read.responses)
    facts: dict[str, Any] = {
      "jalign": jalign.__version__,
      "model": model,
      "parameters": fingerprint(loaded.params, ())[:16],
      "data": path,
      "template": read.template,
    }
    if isinstance(loaded, Scorer):
      facts |= {"objectives": loaded.names, "constant": loaded.constant}
    if other is not None:
      facts |= {
        "reference": reference,
        "reference_parameters": fingerprint(other.params, ())[:16],
        "beta": beta,
      }
    sums = _Sums()
    if isinstance(loaded, Scorer):
      check_responses(read.responses, loaded)
      names = score_columns(loaded)
    else:
      names = ()
    with table(out, facts, scores=names, reference=bool(reference)) as write:
      progress = Progress("scores", "response", len(read.responses), leave=True)
      if isinstance(loaded, Scorer):
        for rows, margins in model_rows(
          read.responses, loaded, batch_size, mesh
        ):
          write(rows)
          sums.add_scored(rows, names, margins)
          progress.update(len(rows))
      else:
        scorer = by_policy(loaded, other, beta)
        for rows in scored_rows(read.responses, scorer, batch_size, mesh):
          write(rows)
          sums.add(rows)
          progress.update(len(rows))
      progress.close()
  return [*read.lines, *_said(sums, reference, names), f"-> {out}"]


def _check_positions(config: ModelConfig | None, responses) -> None:
  most = 0 if config is None else config.learned_positions
  if not most:
    return
  for response in responses:
    tokens = data.sequence_length(response.encoded)
    if tokens > most:
      raise UserError(
        f"a sequence has {tokens} tokens, and the model has positions for"
        f" {most}.",
        where=response.source,
      )


def _said(sums: _Sums, reference: str, names: Sequence[str]) -> Iterator[str]:
  tokens, totals = sums.tokens, sums.totals
  said = f"{sums.responses} responses, {tokens} tokens"
  if names:
    means = ", ".join(
      f"mean {name} {totals[name] / sums.responses:.4f}" for name in names
    )
    yield f"{said}: {means}"
    for name, pairs in labelled(sums.labelled).items():
      yield f"{name} higher for chosen: {told(pairs)}"
    return
  yield (
    f"{said}: {totals['logprob'] / tokens:.4f} nats a token,"
    f" entropy {totals['entropy'] / tokens:.4f} nats"
  )
  for name, what in (
    ("logprob", "chosen likelier than rejected"),
    ("implicit_reward", f"implicit reward over {reference} higher for chosen"),
  ):
    margins = sums.margins.get(name)
    if margins:
      share = 100 * float(np.mean(0.5 + 0.5 * np.sign(margins)))
      yield f"{what}: {share:.1f} %"
