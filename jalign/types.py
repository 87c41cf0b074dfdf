"""Records that cross module borders, and the legend of shape letters.

Shape letters, everywhere in jalign:

  B batch rows          T tokens of a sequence    S cache slots
  K responses a prompt  N new (generated) tokens  C tokens of one chunk
  V vocabulary          D model width             F mlp width
  H query heads         G key/value heads         E head width
  L layers              M models of a mixture     P pairs (B = 2P rows)

Conventions, true at every public border: sequences are right-padded; lengths
and masks are data and are never inferred from token ids (pad may equal eos);
log-probs are in nats, and a sequence's log-prob is the *sum* over its scored
tokens.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import struct

Array = jax.Array
Params = Any  # a nested dict of arrays
Cache = Any  # opaque to the decode loop


class Layout(NamedTuple):
  """How a policy's logits are split over a mesh.

  Attributes:
    batch_axes: mesh axis (or axes) over which rows are split, None for none.
    vocab_axis: the same of the vocabulary.
  """

  batch_axes: Any = None
  vocab_axis: Any = None


NOT_SPLIT = Layout()


def _as_they_are(params: Params, rows: int) -> Params:
  del rows
  return params


def _first(params: Params, parts: tuple[Array, ...], rows: Array) -> Array:
  del params, rows
  return parts[0]


class Policy(NamedTuple):
  """All that decoding needs: pure functions over a params tree.

  Attributes:
    init_cache: `(params, batch, size) -> Cache` for `batch` rows of at most
      `size` tokens each. Rows are the first axis of every leaf: decoding
      repeats, gathers and replaces rows of a cache that it knows nothing of.
    extend: `(params, tokens [B, C], lengths [B], cache) -> (logits, cache)`.
      Appends the first `lengths[b]` of the C tokens to row b. C > 1 is a
      prefill or a chunk of one, C == 1 a decode step. `logits` are float32
      [B, V] after each row's last appended token; or, of a mixture, a tuple
      of M such arrays, each model's own, the policy's first.
    prepare: `(params, rows) -> params` as decoding wants them for so many rows
      at a time: the loop calls it once, before the first token. The other
      functions take either form.
    combine: `(params, parts, rows [B]) -> [B, V]`, the logits to draw from,
      out of the M parts; `rows` are the indices of the caller's rows, for
      params that differ between them.
    layout: how a mesh splits the logits.
  """

  init_cache: Callable[..., Cache]
  extend: Callable[..., tuple[Any, Cache]]
  prepare: Callable[[Params, int], Params] = _as_they_are
  combine: Callable[[Params, tuple[Array, ...], Array], Array] = _first
  layout: Layout = NOT_SPLIT


class Head(struct.PyTreeNode):
  """The map from hidden states to logits, kept apart so that it can stream.

  Logits are `cap(scale * hidden @ weight.T)`, `cap(z) = soft_cap *
  tanh(z / soft_cap)`; or `dense(hidden)` where `dense` is given.

  Attributes:
    weight: [V, D] output embedding, or None for a dense head.
    dense: `hidden [..., D] -> logits [..., V]`; for adapted modules whose
      output layer is not a matrix. It is not streamed over the vocabulary.
    scale: factor on the logits.
    soft_cap: bound on the logits; None for none.
    vocab_axis: mesh axis (or axes) over which V is split, None for none.
    batch_axes: mesh axes over which the rows of hidden states are split.
  """

  weight: Array | None
  dense: Callable[[Array], Array] | None = struct.field(
    pytree_node=False, default=None
  )
  scale: float = struct.field(pytree_node=False, default=1.0)
  soft_cap: float | None = struct.field(pytree_node=False, default=None)
  vocab_axis: Any = struct.field(pytree_node=False, default=None)
  batch_axes: Any = struct.field(pytree_node=False, default=None)


class Model(NamedTuple):
  """A language model: to params what optax.GradientTransformation is to state.

  Every `Model` is a `Policy` too (the last five fields).

  Attributes:
    init: `key -> params`.
    forward: `(params, tokens [B, T], positions=None, segment_ids=None,
      prefix_ids=None) -> hidden [B, T, D]`. Never logits. Positions default to
      0 .. T-1; tokens attend causally, and only within their segment where ids
      are given. `prefix_ids` names one more segment that each token sees: the
      prompt of several responses, say; its own where there is no other.
    head: `params -> Head`.
    init_cache: as `Policy.init_cache`.
    extend: as `Policy.extend`.
    prepare: as `Policy.prepare`.
    combine: as `Policy.combine`.
    layout: as `Policy.layout`.
  """

  init: Callable[[Array], Params]
  forward: Callable[..., Array]
  head: Callable[[Params], Head]
  init_cache: Callable[..., Cache]
  extend: Callable[..., tuple[Any, Cache]]
  prepare: Callable[[Params, int], Params] = _as_they_are
  combine: Callable[[Params, tuple[Array, ...], Array], Array] = _first
  layout: Layout = NOT_SPLIT


class Packed(struct.PyTreeNode):
  """Rows that hold several sequences side by side, for a model to read.

  Rows come in G groups of n, W slots wide. A group holds all of R / G of the R
  sequences, in their order, so that devices can take groups whole. Each slot
  predicts the one after it, within its sequence.

  Attributes:
    tokens: [G, n, W] int32.
    positions: [G, n, W] int32, each token's place in its sequence.
    segment_ids: [G, n, W] int32, 0 on padding; see `Model.forward`.
    places: [G, R / G, T] int32 slot, among the n * W of its group, of the
      state after each token of each sequence; 0 on padding.
    prefix_ids: [G, n, W] int32, where sequences share what they begin with.
  """

  tokens: Array
  positions: Array
  segment_ids: Array
  places: Array
  prefix_ids: Array | None = None


class Sequences(struct.PyTreeNode):
  """Right-padded prompt-and-response rows.

  Attributes:
    tokens: [B, T] int32: prompt, response, end of sequence, padding.
    mask: [B, T] bool, True on the scored tokens: the response with its end of
      sequence. mask[:, 0] is False (the first token has no prediction).
    lengths: [B] int32 tokens before the padding.
    packed: the same sequences in fewer rows, which are read in their place.
  """

  tokens: Array
  mask: Array
  lengths: Array
  packed: Packed | None = None


class SequenceBatch(struct.PyTreeNode):
  """Single responses, for likelihood losses.

  Attributes:
    sequences: B rows.
    weights: [B] float32; 0 marks a row that only fills the batch.
    rewards: [B] float32 reward of each response.
    values: [B] float32 expected reward of the prompt, before the response.
    preference: [B] float32 P(response > an opponent's), in [0, 1].
    ref_logps: [B] float32, where they were precomputed.
    old_token_logps: [B, T - 1] float32 log-probs of tokens 1 .. T - 1 when they
      were sampled; 0 where a token isn't scored.
    advantages: [B, T - 1] float32, of each of these tokens; or [B], where the
      tokens of a response share one.
  """

  sequences: Sequences
  weights: Array
  rewards: Array | None = None
  values: Array | None = None
  preference: Array | None = None
  ref_logps: Array | None = None
  old_token_logps: Array | None = None
  advantages: Array | None = None


class PairBatch(struct.PyTreeNode):
  """Preference pairs.

  Attributes:
    sequences: 2P rows, interleaved: rows 0, 2, 4 ... are chosen and rows
      1, 3, 5 ... rejected, so that a pair stays on one shard of the data.
    weights: [P] float32; 0 marks a pair that only fills the batch.
    preference: [P] float32 P(chosen > rejected) in [0, 1], for soft labels.
    chosen_scores: [P] float32 reward of the chosen response.
    rejected_scores: [P] float32 reward of the rejected response.
    ref_logps: [2P] float32 reference log-probs, where they were precomputed.
  """

  sequences: Sequences
  weights: Array
  preference: Array | None = None
  chosen_scores: Array | None = None
  rejected_scores: Array | None = None
  ref_logps: Array | None = None


class ListBatch(struct.PyTreeNode):
  """K responses to each prompt.

  Attributes:
    sequences: B * K rows, the K responses of a prompt adjacent.
    weights: [B] float32; 0 marks a list that only fills the batch.
    scores: [B, K] float32, higher is better.
    valid: [B, K] bool, False where a list is shorter than K.
    ref_logps: [B * K] float32, where they were precomputed.
  """

  sequences: Sequences
  weights: Array
  scores: Array
  valid: Array
  ref_logps: Array | None = None


class RolloutBatch(struct.PyTreeNode):
  """K sampled responses to each prompt, with what was recorded of them.

  Attributes:
    sequences: B * K rows, the K responses of a prompt adjacent.
    weights: [B] float32; 0 marks a prompt that only fills the batch.
    rewards: [B, K] float32 reward of each response.
    valid: [B, K] bool, False where a prompt has fewer than K responses.
    old_token_logps: [B * K, T - 1] float32 log-probs of tokens 1 .. T - 1 when
      they were sampled; 0 where a token isn't scored.
    advantages: [B * K, T - 1] float32, of each of these tokens; or [B, K],
      where the tokens of a response share one.
    ref_token_logps: [B * K, T - 1] float32 log-probs under the reference,
      where they were recorded.
  """

  sequences: Sequences
  weights: Array
  rewards: Array
  valid: Array
  old_token_logps: Array
  advantages: Array | None = None
  ref_token_logps: Array | None = None


class ScoreBatch(struct.PyTreeNode):
  """Ranked responses to each prompt, for the head of a reward model.

  Attributes:
    sequences: B * K rows, the K responses of a prompt adjacent, the best
      first: of a pair, the chosen one.
    weights: [B] float32; 0 marks an example that only fills the batch.
    ranks: [B, K] float32 places, 1 for the best; equal ones are ties.
    valid: [B, K] bool, False where a prompt has fewer than K responses.
    preference: [B] float32 P(first > second) in [0, 1], of pairs.
    margin: [B] float32 by how much the first is better, of pairs.
  """

  sequences: Sequences
  weights: Array
  ranks: Array
  valid: Array
  preference: Array | None = None
  margin: Array | None = None


class UnpairedBatch(struct.PyTreeNode):
  """Responses with a binary label.

  Attributes:
    sequences: B rows.
    weights: [B] float32; 0 marks a row that only fills the batch.
    desirable: [B] bool.
    mismatched: B rows, each prompt with a response to another prompt: samples
      for the KL of KTO.
    mismatched_cut: [B] float32 tokens that didn't fit in a mismatched row.
    unmatched: [B] float32, 1 where there is no response to another prompt:
      the mismatched row scores nothing.
    desirable_rate: [B] float32 P(desirable | prompt), in [0, 1].
    ref_logps: [B] float32, where they were precomputed.
  """

  sequences: Sequences
  weights: Array
  desirable: Array
  mismatched: Sequences | None = None
  mismatched_cut: Array | None = None
  unmatched: Array | None = None
  desirable_rate: Array | None = None
  ref_logps: Array | None = None


class Rollout(struct.PyTreeNode):
  """Prompts with sampled responses; every array shares the tokens' columns.

  Attributes:
    sequences: B rows; the mask is True on sampled tokens, the end of sequence
      included.
    prompt_lengths: [B] int32.
    logps: [B, T] float32 log-prob of each sampled token under the
      distribution that it was drawn from, after temperature, truncation and
      mixture; 0 elsewhere.
    model_logps: [M, B, T] float32 log-prob of the same tokens under each
      model by itself, untempered and untruncated; the first is the policy.
    finished: [B] bool, True where the response ended with a stop sequence
      rather than at the length limit.
    entropy: [B, T] float32 entropy (nats) of the policy's own distribution,
      untempered, that each sampled token was drawn from; None if not asked.
    top_k_mass: [B, T] float32 probability of that distribution's k most
      probable tokens; None if not asked.
  """

  sequences: Sequences
  prompt_lengths: Array
  logps: Array
  model_logps: Array
  finished: Array
  entropy: Array | None = None
  top_k_mass: Array | None = None
