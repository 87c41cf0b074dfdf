"""Records that modules exchange, and the meaning of the shape letters.

Shape letters, everywhere in jalign:

  B batch rows          T tokens of a sequence    S cache slots
  K responses/prompt    N new (generated) tokens  C tokens of one chunk
  V vocabulary          D model width             F mlp width
  H query heads         G key/value heads         E head width
  L layers              M models of a mixture     P pairs (B = 2P rows)

Conventions of every public function: sequences are right-padded; lengths and
masks are data and are never inferred from token ids (the padding may have the
id of the end of sequence); log-probs are in nats, and a sequence's log-prob is
the *sum* over its scored tokens.
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
    batch_axes: mesh axis (or axes) over which rows are split, or None.
    vocab_axis: mesh axis (or axes) over which the vocabulary is split, or None.
    tensor: devices along `tensor` while decoding; 0 for the mesh's.
  """

  batch_axes: Any = None
  vocab_axis: Any = None
  tensor: int = 0


NOT_SPLIT = Layout()


def _as_they_are(params: Params, rows: int, home: Any = None) -> Params:
  del rows, home
  return params


def _first(params: Params, parts: tuple[Array, ...], rows: Array) -> Array:
  del params, rows
  return parts[0]


class Policy(NamedTuple):
  """All that decoding needs of a model: pure functions over a params tree.

  Attributes:
    init_cache: `(params, batch, size) -> Cache` for rows of at most `size`
      tokens. Rows are the first axis of every leaf: decoding repeats, gathers
      and replaces rows, and knows nothing else of a cache.
    extend: `(params, tokens [B, C], lengths [B], cache) -> (logits, cache)`.
      Appends the first `lengths[b]` of the C tokens to row b. C > 1 is a
      prefill or a chunk of a prefill, C == 1 a decode step. `logits` are
      float32 [B, V] after each row's last appended token; for a mixture a tuple
      of M such arrays, the policy's first.
    prepare: `(params, rows, home=None) -> params`, in the form that suits
      decoding `rows` rows; called once, before the loop. The params lie on the
      mesh `home`, if given. The other functions take both forms.
    combine: `(params, parts, rows [B]) -> [B, V]`, the logits to draw from,
      made of the M parts; `rows`: the caller's rows, for params that differ.
    layout: how a mesh splits the logits.
  """

  init_cache: Callable[..., Cache]
  extend: Callable[..., tuple[Any, Cache]]
  prepare: Callable[..., Params] = _as_they_are
  combine: Callable[[Params, tuple[Array, ...], Array], Array] = _first
  layout: Layout = NOT_SPLIT


class Head(struct.PyTreeNode):
  """The map from hidden states to logits.

  It is apart: log-probs are computed a tile of the vocabulary at a time. Logits
  are `cap(scale * hidden @ weight.T)`, cap(z) = soft_cap * tanh(z / soft_cap);
  or `dense(hidden)` where `dense` is given.

  Attributes:
    weight: [V, D] output embedding, or None for a dense head.
    dense: `hidden [..., D] -> logits [..., V]`, for adapted modules whose
      output layer is not a matrix; not streamed over the vocabulary.
    scale: factor on the logits.
    soft_cap: bound on the logits' absolute values; None for no bound.
    vocab_axis: mesh axis (or axes) over which V is split, or None.
    width_axis: likewise D.
    batch_axes: likewise rows of hidden states.
  """

  weight: Array | None
  dense: Callable[[Array], Array] | None = struct.field(
    pytree_node=False, default=None
  )
  scale: float = struct.field(pytree_node=False, default=1.0)
  soft_cap: float | None = struct.field(pytree_node=False, default=None)
  vocab_axis: Any = struct.field(pytree_node=False, default=None)
  batch_axes: Any = struct.field(pytree_node=False, default=None)
  width_axis: Any = struct.field(pytree_node=False, default=None)


class Model(NamedTuple):
  """A language model: pure functions that take the params, as optax's do.

  The last five fields are those of `Policy`, so that every `Model` can be
  decoded.

  Attributes:
    init: `key -> params`.
    forward: `(params, tokens [B, T], positions=None, segment_ids=None,
      prefix_ids=None) -> hidden [B, T, D]`, never logits. Positions default to
      0 .. T-1. Tokens attend causally, and only within their segment where
      `segment_ids` are given. `prefix_ids` names one more segment that each
      token sees, such as the prompt that several responses share; a token
      without such a segment has its own id there.
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

  There are G groups of n rows, and each row has W slots for tokens. A group
  holds R / G whole sequences of the R, in their order, so that a device can
  take whole groups. Each slot predicts the next slot of its sequence.

  Attributes:
    tokens: [G, n, W] int32.
    positions: [G, n, W] int32, each token's position in its sequence.
    segment_ids: [G, n, W] int32, 0 on padding; see `Model.forward`.
    places: [G, R / G, T] int32; for each token of each sequence, the slot among
      the n * W of its group that holds the state after the token; 0 on padding.
    prefix_ids: [G, n, W] int32; None unless sequences share a beginning. See
      `Model.forward`.
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
    lengths: [B] int32, number of tokens before the padding.
    packed: the same sequences in fewer rows, which a model reads instead of
      `tokens`; None to read `tokens`.
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
    preference: [B] float32 P(response > an opponent's response), in [0, 1].
    ref_logps: [B] float32 precomputed log-probs under the reference, or None.
    old_token_logps: [B, T - 1] float32 log-probs of tokens 1 .. T - 1 when they
      were sampled; 0 where a token isn't scored.
    advantages: [B, T - 1] float32 advantages of these tokens; or [B], where the
      tokens of a response share an advantage.
    greedy_rewards: [B] float32 reward of the greedy response to the same
      prompt.
    target_logps: [B] float32 log-probs under a target distribution.
    anchor_token_logps: [B, T - 1] float32 log-probs of tokens 1 .. T - 1 under
      the anchor of a proximal step.
    baselines: [B] float32 numbers that don't depend on the response, for a loss
      to subtract from a factor before the log-prob.
    old_token_values: [B, T - 1] float32 a critic's value before each of these
      tokens when they were sampled.
    returns: [B, T - 1] float32 targets of the critic's values.
  """

  sequences: Sequences
  weights: Array
  rewards: Array | None = None
  values: Array | None = None
  preference: Array | None = None
  ref_logps: Array | None = None
  old_token_logps: Array | None = None
  advantages: Array | None = None
  greedy_rewards: Array | None = None
  target_logps: Array | None = None
  baselines: Array | None = None
  anchor_token_logps: Array | None = None
  old_token_values: Array | None = None
  returns: Array | None = None


class PairBatch(struct.PyTreeNode):
  """Preference pairs.

  Attributes:
    sequences: 2P rows, interleaved: rows 0, 2, 4 ... are chosen and rows
      1, 3, 5 ... rejected, so that both rows of a pair are on one device.
    weights: [P] float32; 0 marks a pair that only fills the batch.
    preference: [P] float32 P(chosen > rejected) in [0, 1], for soft labels.
    chosen_scores: [P] float32 reward of the chosen response.
    rejected_scores: [P] float32 reward of the rejected response.
    ref_logps: [2P] float32 precomputed log-probs under the reference, or None.
    old_logps: [2P] float32 log-probs of the responses under the policy that
      drew them, or None.
    beside: P rows, each pair's prompt with a third response, or None.
  """

  sequences: Sequences
  weights: Array
  preference: Array | None = None
  chosen_scores: Array | None = None
  rejected_scores: Array | None = None
  ref_logps: Array | None = None
  old_logps: Array | None = None
  beside: Sequences | None = None


class ListBatch(struct.PyTreeNode):
  """K responses to each prompt.

  Attributes:
    sequences: B * K rows, the K responses of a prompt adjacent.
    weights: [B] float32; 0 marks a list that only fills the batch.
    scores: [B, K] float32, higher is better.
    valid: [B, K] bool, False where a list is shorter than K.
    ref_logps: [B * K] float32 precomputed log-probs under the reference, or
      None.
  """

  sequences: Sequences
  weights: Array
  scores: Array
  valid: Array
  ref_logps: Array | None = None


class RolloutBatch(struct.PyTreeNode):
  """K sampled responses to each prompt, with rewards and recorded log-probs.

  Attributes:
    sequences: B * K rows, the K responses of a prompt adjacent.
    weights: [B] float32; 0 marks a prompt that only fills the batch.
    rewards: [B, K] float32 reward of each response.
    valid: [B, K] bool, False where a prompt has fewer than K responses.
    old_token_logps: [B * K, T - 1] float32 log-probs of tokens 1 .. T - 1 when
      they were sampled; 0 where a token isn't scored.
    advantages: [B * K, T - 1] float32 advantages of these tokens; or [B, K],
      where the tokens of a response share an advantage.
    ref_token_logps: [B * K, T - 1] float32 log-probs of these tokens under the
      reference; None unless they were recorded.
  """

  sequences: Sequences
  weights: Array
  rewards: Array
  valid: Array
  old_token_logps: Array
  advantages: Array | None = None
  ref_token_logps: Array | None = None


class UnpairedBatch(struct.PyTreeNode):
  """Responses with a binary label.

  Attributes:
    sequences: B rows.
    weights: [B] float32; 0 marks a row that only fills the batch.
    desirable: [B] bool.
    mismatched: B rows, each prompt with a response to another prompt: samples
      for KTO's estimate of the KL.
    mismatched_cut: [B] float32, number of tokens that didn't fit in a
      mismatched row.
    unmatched: [B] float32, 1 where there is no response to another prompt and
      the mismatched row therefore has no scored token.
    desirable_rate: [B] float32 P(desirable | prompt), in [0, 1].
    ref_logps: [B] float32 precomputed log-probs under the reference, or None.
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
      untempered and untruncated, at each sampled token; None unless asked for.
    top_k_mass: [B, T] float32 probability of the k most probable tokens of that
      same distribution; None unless asked for.
  """

  sequences: Sequences
  prompt_lengths: Array
  logps: Array
  model_logps: Array
  finished: Array
  entropy: Array | None = None
  top_k_mass: Array | None = None
