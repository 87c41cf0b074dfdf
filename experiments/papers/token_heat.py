"""Entanglement of one pair, token by token: what the heat maps show."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.papers.policies import Trained
from jalign import diagnostics
from jalign.logprobs import sequence_logprobs
from jalign.types import Sequences

LONGEST = 28  # scored tokens of either response


class Heat(NamedTuple):
  """Cosines of the gradients of a pair's tokens.

  Attributes:
    cosine: [m, n] cosine of each chosen token with each rejected token.
    products: [m, n] inner products of their gradients.
    chosen: m texts of the chosen response's tokens.
    rejected: n texts of the rejected response's tokens.
    inner: inner product of the responses' gradients, computed without tokens.
  """

  cosine: np.ndarray
  products: np.ndarray
  chosen: list[str]
  rejected: list[str]
  inner: float

  def summary(self) -> tuple[float, float, float]:
    """(mean cosine of equal tokens, that of others, relative error of sum)."""
    same = np.array(self.chosen)[:, None] == np.array(self.rejected)
    # The sum of all products should be the inner product of the responses.
    off = abs(self.products.sum() - self.inner) / abs(self.products).sum()
    return (
      float(self.cosine[same].mean()),
      float(self.cosine[~same].mean()),
      float(off),
    )


def token_heat(policy: Trained) -> Heat:
  """The matrix of the first held-out pair that is short and shares tokens."""
  record, _ = policy.pairs.first("pairs", 64)
  mask = np.asarray(record.sequences.mask)
  tokens = np.asarray(record.sequences.tokens)
  counts = mask.sum(-1).reshape(-1, 2)
  said = lambda i: set(tokens[i][mask[i]])
  shared = [len(said(2 * i) & said(2 * i + 1)) for i in range(len(counts))]
  fits = (counts.max(-1) <= LONGEST) & (np.array(shared) >= 3)
  at = int(np.flatnonzero(fits)[0])
  length = int(np.asarray(record.sequences.lengths)[2 * at : 2 * at + 2].max())
  cut = lambda i: jax.tree.map(lambda x: x[i : i + 1], record.sequences)
  row = lambda i: Sequences(
    jnp.asarray(cut(i).tokens[:, :length]),
    jnp.asarray(cut(i).mask[:, :length]),
    jnp.asarray(cut(i).lengths),
  )
  a, b = row(2 * at), row(2 * at + 1)
  logps = diagnostics.dense_logprobs(policy.model)
  gram = jax.jit(lambda p, x, y: diagnostics.token_gram(
    logps, p, jax.tree.map(lambda i, j: jnp.concatenate([i, j]), x, y)
  ))  # fmt: skip
  whole = [np.asarray(gram(policy.params, *two), np.float64)
           for two in ((a, b), (a, a), (b, b))]  # fmt: skip
  live = [np.asarray(x.mask)[0, 1:] for x in (a, b)]
  products = whole[0][live[0]][:, live[1]]
  norms = [np.sqrt(np.diag(x)[at]) for x, at in zip(whole[1:], live)]
  texts = [
    [policy.tokenizer.decode([int(t)]) or "<eos>" for t in row]
    for row in (np.asarray(x.tokens)[0, 1:][at] for x, at in zip((a, b), live))
  ]
  both = jax.tree.map(lambda i, j: jnp.concatenate([i, j]), a, b)
  exact = diagnostics.gradient_products(
    lambda p, rows: sequence_logprobs(policy.model, p, rows),
    policy.params,
    both,
  )
  return Heat(
    products / np.outer(*norms),
    products,
    *texts,
    float(exact.inner["all"][0]),
  )
