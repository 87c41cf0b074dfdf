"""From files to batches: records, tokenizers, token ids, loaders.

  records, report = read("hh", path)
  train, held_out = split(records, eval_fraction=0.1, seed=0)
  tokenizer = train_bpe((r.prompt + r.chosen for r in train), vocab_size=4096)
  pairs, cut = encode_pairs(train, tokenizer, Limits(max_tokens=512))
  batches = make_loader(pairs, collate_pairs, batch_size=32, buckets=(256, 512))

Everything here runs on the host, in NumPy, until the batch records.
"""

from jalign.data.collate import (
  PromptBatch,
  collate_chosen,
  collate_pairs,
  collate_prompts,
  collate_sequences,
)
from jalign.data.encode import (
  EncodedPair,
  EncodedPrompt,
  chosen_length,
  encode_pair,
  encode_pairs,
  encode_prompts,
  pair_length,
  prompt_length,
)
from jalign.data.limits import Cut, Limits, Truncation
from jalign.data.loader import (
  Batch,
  Loader,
  LoaderReport,
  PlannedBatch,
  batches_per_epoch,
  make_loader,
  plan,
)
from jalign.data.schema import (
  BinaryRecord,
  DemonstrationRecord,
  PreferenceRecord,
  PromptRecord,
  RankedRecord,
  Report,
  Skipped,
)
from jalign.data.sequences import (
  EncodedSequence,
  encode_demonstration,
  encode_demonstrations,
  sequence_length,
)
from jalign.data.sources import (
  SOURCES,
  read,
  read_hh,
  read_jsonl,
  read_prompts,
  split,
  unique_prompts,
)
from jalign.data.tokenizer import Tokenizer, load, train_bpe

__all__ = [
  "SOURCES",
  "Batch",
  "BinaryRecord",
  "Cut",
  "DemonstrationRecord",
  "EncodedPair",
  "EncodedPrompt",
  "EncodedSequence",
  "Limits",
  "Loader",
  "LoaderReport",
  "PlannedBatch",
  "PreferenceRecord",
  "PromptBatch",
  "PromptRecord",
  "RankedRecord",
  "Report",
  "Skipped",
  "Tokenizer",
  "Truncation",
  "batches_per_epoch",
  "chosen_length",
  "collate_chosen",
  "collate_pairs",
  "collate_prompts",
  "collate_sequences",
  "encode_demonstration",
  "encode_demonstrations",
  "encode_pair",
  "encode_pairs",
  "encode_prompts",
  "load",
  "make_loader",
  "pair_length",
  "plan",
  "prompt_length",
  "read",
  "read_hh",
  "read_jsonl",
  "read_prompts",
  "sequence_length",
  "split",
  "train_bpe",
  "unique_prompts",
]
