"""Turns files into batches: records, chat templates, token ids, loaders.

  records, report = read("hh", path)
  train, held_out = split(records, eval_fraction=0.1, seed=0)
  tokenizer = train_bpe((r.prompt + r.chosen for r in train), vocab_size=4096)
  pairs, cut = encode_pairs(train, tokenizer, Limits(max_tokens=512))
  batches = make_loader(pairs, collate_pairs, batch_size=32, buckets=(256, 512))

Everything here runs on the host, in NumPy, up to and including the batches.
"""

from jalign.data.chat import PLAIN_CHAT, ChatTemplate
from jalign.data.collate import (
  PromptBatch,
  collate_chosen,
  collate_lists,
  collate_pairs,
  collate_prompts,
  collate_sequences,
  collate_unpaired,
)
from jalign.data.completions import (
  read_binary,
  read_conversations,
  read_demonstrations,
)
from jalign.data.contexts import (
  ContextBatch,
  EncodedContext,
  collate_contexts,
  context_lead,
  context_length,
  encode_contexts,
  with_context,
)
from jalign.data.convert import (
  CONVERSIONS,
  all_ordered,
  best_and_worst,
  best_demonstrations,
  chosen_demonstrations,
  convert,
  label_by_score,
  label_by_side,
)
from jalign.data.critiques import (
  EncodedCritiques,
  collate_critiques,
  critique_prompt,
  critique_text,
  critiques_length,
  encode_critiques,
  read_critiques,
  with_critiques,
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
from jalign.data.groups import split, unique_prompts
from jalign.data.labelled import (
  EncodedBinary,
  EncodedList,
  binary_length,
  encode_binary,
  encode_lists,
  list_length,
  list_size,
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
from jalign.data.mismatch import other_responses, spare_responses
from jalign.data.packing import (
  Fit,
  Packing,
  PackingReport,
  best_fit,
  pack,
  packing_report,
)
from jalign.data.preferences import (
  read_hh,
  read_jsonl,
  read_pairs,
  read_prompts,
  read_shp,
)
from jalign.data.rankings import read_ranked, read_ultrafeedback
from jalign.data.ratings import (
  EncodedRating,
  encode_ratings,
  rating_length,
  read_ratings,
)
from jalign.data.relabel import (
  directional_choice,
  directional_prompt,
  reward_augmented,
)
from jalign.data.schema import (
  BinaryRecord,
  ContextRecord,
  ConversationRecord,
  CritiqueRecord,
  DemonstrationRecord,
  PreferenceRecord,
  PromptRecord,
  RankedRecord,
  RatingRecord,
  Report,
  Skipped,
)
from jalign.data.scored import (
  ScoreBatch,
  collate_ratings,
  collate_scored_labels,
  collate_scored_lists,
  collate_scored_pairs,
)
from jalign.data.sequences import (
  EncodedSequence,
  encode_conversation,
  encode_conversations,
  encode_demonstration,
  encode_demonstrations,
  sequence_length,
)
from jalign.data.sources import (
  KINDS,
  SOURCES,
  WITHOUT_TEMPLATE,
  guess_source,
  read,
)
from jalign.data.templates import load_template
from jalign.data.tokenizer import Tokenizer, train_bpe, train_words
from jalign.data.tokenizer_folder import load
from jalign.data.trees import read_openassistant
from jalign.data.views import (
  lists_as_sequences,
  pairs_as_binary,
  pairs_as_lists,
)

__all__ = [
  "CritiqueRecord",
  "with_critiques",
  "read_critiques",
  "encode_critiques",
  "critiques_length",
  "critique_text",
  "critique_prompt",
  "collate_critiques",
  "EncodedCritiques",
  "ContextBatch",
  "ContextRecord",
  "with_context",
  "encode_contexts",
  "context_length",
  "context_lead",
  "collate_contexts",
  "EncodedContext",
  "CONVERSIONS",
  "KINDS",
  "PLAIN_CHAT",
  "SOURCES",
  "WITHOUT_TEMPLATE",
  "Batch",
  "BinaryRecord",
  "ChatTemplate",
  "ConversationRecord",
  "Cut",
  "DemonstrationRecord",
  "EncodedBinary",
  "EncodedList",
  "EncodedPair",
  "EncodedPrompt",
  "EncodedRating",
  "EncodedSequence",
  "Fit",
  "Limits",
  "Loader",
  "LoaderReport",
  "Packing",
  "PackingReport",
  "PlannedBatch",
  "PreferenceRecord",
  "PromptBatch",
  "PromptRecord",
  "RankedRecord",
  "RatingRecord",
  "Report",
  "ScoreBatch",
  "Skipped",
  "Tokenizer",
  "Truncation",
  "all_ordered",
  "batches_per_epoch",
  "best_and_worst",
  "best_demonstrations",
  "best_fit",
  "binary_length",
  "chosen_demonstrations",
  "convert",
  "chosen_length",
  "collate_chosen",
  "collate_lists",
  "collate_pairs",
  "collate_prompts",
  "collate_ratings",
  "collate_scored_labels",
  "collate_scored_lists",
  "collate_scored_pairs",
  "collate_sequences",
  "collate_unpaired",
  "directional_choice",
  "directional_prompt",
  "encode_binary",
  "encode_conversation",
  "encode_conversations",
  "encode_demonstration",
  "encode_demonstrations",
  "encode_lists",
  "encode_pair",
  "encode_pairs",
  "encode_prompts",
  "encode_ratings",
  "guess_source",
  "label_by_score",
  "label_by_side",
  "list_length",
  "list_size",
  "load",
  "load_template",
  "make_loader",
  "other_responses",
  "pack",
  "packing_report",
  "pair_length",
  "plan",
  "prompt_length",
  "rating_length",
  "read",
  "read_binary",
  "read_conversations",
  "read_demonstrations",
  "read_hh",
  "read_jsonl",
  "read_openassistant",
  "read_pairs",
  "read_prompts",
  "read_ranked",
  "read_ratings",
  "read_shp",
  "read_ultrafeedback",
  "reward_augmented",
  "sequence_length",
  "spare_responses",
  "split",
  "train_bpe",
  "train_words",
  "unique_prompts",
  "lists_as_sequences",
  "pairs_as_binary",
  "pairs_as_lists",
]
