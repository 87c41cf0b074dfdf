"""Encoded records of one source, and the batches that stages ask of them."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from jalign import data
from jalign.errors import UserError

_PAIRS = (None, data.collate_pairs, data.pair_length)
_CHOSEN = (None, data.collate_chosen, data.chosen_length)
_SEQUENCES = (None, data.collate_sequences, data.sequence_length)
_LISTS = (None, data.collate_lists, data.list_length)
_UNPAIRED = (None, data.collate_unpaired, data.binary_length)
_SCORED = (data.lists_as_sequences, *_SEQUENCES[1:])
# (what the records are, what a loss takes) -> (view of the records or None,
# collate, tokens of a row).
_BATCHES: dict[tuple[str, str], tuple[Any, Callable[..., Any], Any]] = {
  ("pairs", "pairs"): _PAIRS,
  ("pairs", "segments"): _PAIRS,
  ("pairs", "sequences"): _CHOSEN,
  ("pairs", "tokens"): _CHOSEN,
  ("pairs", "lists"): (data.pairs_as_lists, *_LISTS[1:]),
  ("pairs", "ranked_segments"): (data.pairs_as_lists, *_LISTS[1:]),
  ("pairs", "unpaired"): (data.pairs_as_binary, *_UNPAIRED[1:]),
  ("sequences", "sequences"): _SEQUENCES,
  ("sequences", "tokens"): _SEQUENCES,
  ("lists", "lists"): _LISTS,
  ("lists", "ranked_segments"): _LISTS,
  ("lists", "sequences"): _SCORED,
  ("lists", "tokens"): _SCORED,
  ("unpaired", "unpaired"): _UNPAIRED,
}


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """What a stage is trained on, or a run is judged by.

  Attributes:
    kind: of the records: "pairs", "lists", "unpaired", "sequences" or
      "prompts".
    train: encoded training records.
    held_out: encoded held-out records.
    train_prompts: different training prompts.
    eval_prompts: different held-out prompts.
    group_of: source of a record -> its split key.
    buckets: padded lengths, ascending.
    pad_id: of the tokenizer.
    facts: what data.json says.
    lines: the same for people.
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

  def check(self, batch: str, where: str) -> None:
    """Raises UserError if the records can't make batches of a kind."""
    if (self.kind, batch) not in _BATCHES:
      takers = [b for kind, b in _BATCHES if kind == self.kind]
      raise UserError(
        f"{batch} are needed, and the data has {self.kind}.",
        where=where,
        remedy="This data serves online algorithms alone."
        if not takers
        else f"This data serves losses on {' or '.join(takers)}; data.convert"
        " makes other records of it.",
      )

  def rows(self, batch: str, part: str) -> list[Any]:
    """The "train" or the "eval" part, as batches of a kind take it."""
    found = {"train": self.train, "eval": self.held_out}[part]
    view = _BATCHES[self.kind, batch][0]
    return found if view is None else view(found)

  def lengths(self, batch: str, part: str) -> list[int]:
    """Tokens of each row of a part."""
    length_of = _BATCHES[self.kind, batch][2]
    return [length_of(record) for record in self.rows(batch, part)]

  def loader(
    self,
    batch: str,
    part: str,
    batch_size: int,
    *,
    seed: int = 0,
    epochs: int | None = None,
    shuffle: bool = True,
    packing: data.Packing | None = None,
  ) -> data.Loader:
    """Batches of a kind, of the "train" or of the "eval" part.

    Args:
      batch: the kind.
      part: "train" or "eval".
      batch_size: examples.
      seed: of the order.
      epochs: None for no end.
      shuffle: see `data.plan`.
      packing: how they are packed; None for rows of their own.
    """
    _, collate, length_of = _BATCHES[self.kind, batch]
    if collate is data.collate_lists:
      both = [*self.rows(batch, "train"), *self.rows(batch, "eval")]
      collate = functools.partial(collate, size=data.list_size(both))
    if collate is data.collate_unpaired:  # a batch may be all of one prompt
      spare = data.spare_responses(self.rows(batch, part))
      collate = functools.partial(collate, spare=spare)
    if packing is not None:
      collate = packing.collate(collate)
    return self._load(
      self.rows(batch, part),
      collate,
      length_of,
      batch_size,
      buckets=self.buckets_of(packing),
      seed=seed,
      epochs=epochs,
      shuffle=shuffle,
    )

  def first(self, batch: str, pairs: int) -> tuple[Any, tuple[str, ...]]:
    """The first held-out pairs as one batch of a kind.

    Args:
      batch: the kind; a pair's two responses are neighbours in it.
      pairs: how many at most.

    Returns:
      (the batch, sources of the pairs).
    """
    found = self.held_out[:pairs]
    view, collate, _ = _BATCHES["pairs", batch]
    width = max(map(_PAIRS[2], found))
    length = min(b for b in self.buckets if b >= width)
    rows = found if view is None else view(found)
    if collate is data.collate_lists:
      collate = functools.partial(collate, size=2)
    if collate is data.collate_unpaired:
      spare = data.spare_responses(view(self.held_out))
      collate = functools.partial(collate, spare=spare)
    record = collate(rows, len(rows), length, pad_id=self.pad_id)
    return record, tuple(pair.source for pair in found)

  def buckets_of(self, packing: data.Packing | None) -> tuple[int, ...]:
    """Rows that are shared hold sequences of any length: one bucket."""
    shared = packing is not None and packing.width
    return self.buckets[-1:] if shared else self.buckets

  def packing_report(
    self, batch: str, batch_size: int, packing: data.Packing, batches: int = 32
  ) -> data.PackingReport:
    """How full the rows of some training batches are."""
    loader = self.loader(batch, "train", batch_size, epochs=1, packing=packing)
    some = [each.data for each in itertools.islice(loader, batches)]
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
      process_index=jax.process_index(),
      process_count=jax.process_count(),
      **options,
    )

  def examples(self, batch: str, part: str) -> Iterable[tuple]:
    """Source and token ids of each row, for a fingerprint."""
    for record in self.rows(batch, part):
      ids = [
        jax.tree.map(np.ndarray.tolist, value)
        for value in vars(record).values()
        if any(isinstance(x, np.ndarray) for x in jax.tree.leaves(value))
      ]
      yield (record.source.replace("\\", "/").rpartition("/")[2], *ids)

  def groups(self, sources: Iterable[str]) -> list[str]:
    """The split key of each source: the cluster of an interval."""
    return [self.group_of[source] for source in sources]

  def sample_prompts(self, count: int) -> list[data.EncodedPrompt]:
    """The first held-out prompts, as many as there are."""
    return self.eval_prompts[:count]
