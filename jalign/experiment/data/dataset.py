"""Encoded records of one source, and the batches that stages make of them."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from jalign import data
from jalign.errors import UserError
from jalign.feedback.answers import Row
from jalign.training.kinds import KINDS, Kind, Reading, kind_of


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """The data that a stage is trained on, or that a run is judged by.

  Attributes:
    kind: kind of the records, as in `jalign.training.kinds.Records`.
    train: encoded training records.
    held_out: encoded held-out records.
    train_prompts: the different training prompts.
    eval_prompts: the different held-out prompts.
    group_of: source of a record -> its split key.
    buckets: padded lengths, ascending.
    pad_id: the tokenizer's id for padding.
    facts: what data.json says.
    lines: the facts as lines for readers.
    rows_by_source: source of a prompt -> the row of the data that its judge
      sees; {} if the settings name no `judge_columns`.
  """

  kind: str
  train: list[Any]
  held_out: list[Any]
  train_prompts: list[data.EncodedPrompt]
  eval_prompts: list[data.EncodedPrompt]
  group_of: dict[str, str]
  buckets: tuple[int, ...]
  pad_id: int
  facts: dict[str, Any]
  lines: tuple[str, ...]
  rows_by_source: Mapping[str, Row] = dataclasses.field(default_factory=dict)

  def serves(self, batch: str | Kind) -> bool:
    """Whether the records can make batches of a kind."""
    return self.kind in kind_of(batch).records

  def check(self, batch: str | Kind, where: str) -> None:
    """Raises UserError if the records can't make batches of a kind."""
    if not self.serves(batch):
      takers = [
        name
        for name, kind in KINDS.items()
        if self.kind in kind.records and not kind.head
      ]
      remedy = (
        f"This data serves losses on {' or '.join(takers)}; data.convert makes"
        " other records of it."
        if takers
        else "This data serves online algorithms alone."
      )
      raise UserError(
        f"{kind_of(batch).name} are needed, and the data has {self.kind}.",
        where=where,
        remedy=kind_of(batch).advice or remedy,
      )

  def reading(self, batch: str | Kind) -> Reading:
    """How the records become batches of a kind, if it is one they serve."""
    return kind_of(batch).records[self.kind]

  def rows(self, batch: str | Kind, part: str) -> list[Any]:
    """The examples of the "train" or "eval" part for batches of a kind."""
    records = {"train": self.train, "eval": self.held_out}[part]
    view = self.reading(batch).view
    return records if view is None else view(records)

  def lengths(self, batch: str | Kind, part: str) -> list[int]:
    """Tokens of each example's longest row, in the "train" or "eval" part."""
    length_of = self.reading(batch).length
    return [length_of(record) for record in self.rows(batch, part)]

  def loader(
    self,
    batch: str | Kind,
    part: str,
    batch_size: int,
    *,
    seed: int = 0,
    epochs: int | None = None,
    shuffle: bool = True,
    packing: data.Packing | None = None,
  ) -> data.Loader:
    """Makes a loader of batches of a kind.

    Args:
      batch: the kind, or its name.
      part: "train" or "eval".
      batch_size: examples per batch.
      seed: seed of the order.
      epochs: number of epochs; None for no end.
      shuffle: see `data.plan`.
      packing: how rows are packed; None gives each sequence a row of its own.
    """
    reading = self.reading(batch)
    collate = self._collate(batch, part)
    if packing is not None:
      collate = packing.collate(collate)
    return self._load(
      self.rows(batch, part),
      collate,
      reading.length,
      batch_size,
      buckets=self.buckets_of(packing),
      seed=seed,
      epochs=epochs,
      shuffle=shuffle,
    )

  def first(self, batch: str | Kind, pairs: int) -> tuple[Any, tuple[str, ...]]:
    """The first held-out pairs as one batch of a kind.

    Args:
      batch: the kind; the two responses of a pair must be adjacent in it.
      pairs: most pairs to take.

    Returns:
      (the batch, sources of the pairs).
    """
    first = self.held_out[:pairs]
    width = max(map(data.pair_length, first))
    length = min(b for b in self.buckets if b >= width)
    view = self.reading(batch).view
    rows = first if view is None else view(first)
    collate = self._collate(batch, "eval")
    record = collate(rows, len(rows), length, pad_id=self.pad_id)
    return record, tuple(pair.source for pair in first)

  def _collate(self, batch: str | Kind, part: str) -> Callable[..., Any]:
    """The collate function of a kind, with its options that depend on data."""
    reading = self.reading(batch)
    options = reading.options(functools.partial(self.rows, batch), part)
    return functools.partial(reading.collate, **options)

  def buckets_of(self, packing: data.Packing | None) -> tuple[int, ...]:
    """The buckets; only the longest if rows are shared, at any length."""
    shared = packing is not None and packing.width
    return self.buckets[-1:] if shared else self.buckets

  def packing_report(
    self,
    batch: str | Kind,
    batch_size: int,
    packing: data.Packing,
    batches: int = 32,
  ) -> data.PackingReport:
    """Counts how full the rows of the first training batches are."""
    loader = self.loader(batch, "train", batch_size, epochs=1, packing=packing)
    some = [record.data for record in itertools.islice(loader, batches)]
    loader.close()
    return data.packing_report(some)

  def prompt_loader(self, batch_size: int, *, seed: int = 0) -> data.Loader:
    """Batches of training prompts, all of one width."""
    return self._load(
      self.train_prompts,
      data.collate_prompts,
      data.prompt_length,
      batch_size,
      buckets=(max(map(data.prompt_length, self.train_prompts)),),
      seed=seed,
    )

  def _load(self, encoded, collate, length_of, batch_size, **options):
    return data.make_loader(
      encoded,
      functools.partial(collate, pad_id=self.pad_id),
      batch_size=batch_size,
      length_of=length_of,
      **options,
    )

  def examples(self, batch: str | Kind, part: str) -> Iterable[tuple]:
    """Yields (source, token ids...) of each example, for a fingerprint."""
    for record in self.rows(batch, part):
      ids = [
        jax.tree.map(np.ndarray.tolist, value)
        for value in vars(record).values()
        if any(isinstance(x, np.ndarray) for x in jax.tree.leaves(value))
      ]
      yield (record.source.replace("\\", "/").rpartition("/")[2], *ids)

  def groups(self, sources: Iterable[str]) -> list[str]:
    """The split key of each source, by which intervals are clustered."""
    return [self.group_of[source] for source in sources]

  def judge_rows(self, sources: Iterable[str], count: int = 0) -> list[Row]:
    """The rows of data that a judge sees beside prompts; {} where it sees none.

    Args:
      sources: sources of the prompts.
      count: rows of the prompts' batch; the rows that fill it have the shortest
        training prompt.
    """
    rows = [self.rows_by_source.get(source, {}) for source in sources]
    if len(rows) < count:
      fill = min(self.train_prompts, key=data.prompt_length)
      row = self.rows_by_source.get(fill.source, {})
      rows += [row] * (count - len(rows))
    return rows

  def sample_prompts(self, count: int) -> list[data.EncodedPrompt]:
    """The first held-out prompts, at most `count`."""
    return self.eval_prompts[:count]
