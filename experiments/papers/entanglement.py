"""Gradient entanglement on linear softmax models: closed forms and laws.

python -m experiments.papers.entanglement --out=runs/papers

Yuan et al. 2024, "A Common Pitfall of Margin-based Language Model Alignment:
Gradient Entanglement", arXiv:2410.13828. Each token has a context vector phi of
its own and is drawn from softmax(W phi). Responses share their first tokens and
differ from there on. NumPy, float64. `entanglement_trained` looks at
transformers under ten losses. Cost: 10 s on a CPU core.
"""

import functools
import sys
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments.papers.claims import Claim, out_folder, report
from jalign.pages.style import PALETTE, new_figure

YUAN = "Yuan et al. 2024, arXiv:2410.13828"
VOCAB, WIDTH, COUNT = 7, 5, 20_000
SHARED = (0, 1, 2, 3, 4, 6, 8)  # tokens that both responses begin with
OWN = (1, 2, 4)  # tokens that each response has for itself
RHOS = (0.5, 1.0, 2.0)


class Pairs(NamedTuple):
  """Products of the gradients by W of two responses' log-probs.

  Attributes:
    chosen: [N] |g_w|^2.
    rejected: [N] |g_l|^2.
    inner: [N] <g_w, g_l>.
  """

  chosen: np.ndarray
  rejected: np.ndarray
  inner: np.ndarray

  def ideal(self, rho: float = 1.0) -> np.ndarray:
    """[N] whether chosen rises and rejected falls, for d_w / d_l = rho."""
    limit = np.minimum(rho * self.chosen, self.rejected / rho)
    return self.inner < limit


def softmax(z: np.ndarray) -> np.ndarray:
  """The softmax over the last axis."""
  p = np.exp(z - z.max(-1, keepdims=True))
  return p / p.sum(-1, keepdims=True)


class Model:
  """N random models, one for each pair of responses.

  Args:
    shared: number of tokens that the two responses begin with.
    own: number of tokens that each response has for itself; the first differs.
    vocab: size of the vocabulary.
    seed: seed of everything.
  """

  def __init__(self, shared: int, own: int, vocab: int = VOCAB, seed: int = 0):
    rng = np.random.default_rng(seed)
    length = shared + own
    self.w = rng.normal(size=(COUNT, vocab, WIDTH))
    self.phi = rng.normal(size=(COUNT, 2, length, WIDTH))
    self.tokens = rng.integers(0, vocab, (COUNT, 2, length))
    # The context is the same up to the first token that differs.
    self.phi[:, 1, : shared + 1] = self.phi[:, 0, : shared + 1]
    self.tokens[:, 1, :shared] = self.tokens[:, 0, :shared]
    step = rng.integers(1, vocab, COUNT)
    self.tokens[:, 1, shared] = (self.tokens[:, 0, shared] + step) % vocab

  def errors(self, w: np.ndarray) -> np.ndarray:
    """[N, 2, T, V] errors: one at the token, minus the softmax."""
    p = softmax(np.einsum("nvd,nitd->nitv", w, self.phi))
    return np.eye(w.shape[1])[self.tokens] - p

  def gradients(self) -> np.ndarray:
    """[N, 2, V, D] gradients of the two log-probs."""
    return np.einsum("nitv,nitd->nivd", self.errors(self.w), self.phi)

  def logps(self, w: np.ndarray) -> np.ndarray:
    """[N, 2] log-probs of the responses, nats."""
    p = softmax(np.einsum("nvd,nitd->nitv", w, self.phi))
    picked = np.take_along_axis(p, self.tokens[..., None], -1)[..., 0]
    return np.log(picked).sum(-1)

  def pairs(self) -> Pairs:
    """The norms and inner products of the gradients."""
    g = self.gradients()
    dot = lambda i, j: np.einsum("nvd,nvd->n", g[:, i], g[:, j])
    return Pairs(dot(0, 0), dot(1, 1), dot(0, 1))


@functools.cache
def failures() -> dict[tuple[int, int], dict[float, float]]:
  """(shared, own tokens) -> rho -> share of pairs that aren't ideal."""
  shares = {}
  for own in OWN:
    for shared in SHARED:
      pairs = Model(shared, own).pairs()
      shares[shared, own] = {
        rho: float(np.mean(~pairs.ideal(rho))) for rho in RHOS
      }
  return shares


def closed_forms() -> list[Claim]:
  """A single decision: norms and inner product from the probabilities alone."""
  model = Model(0, 1)
  got = model.pairs()
  phi = model.phi[:, 0, 0]
  p = softmax(np.einsum("nvd,nd->nv", model.w, phi))
  at = np.arange(COUNT)
  a, b = p[at, model.tokens[:, 0, 0]], p[at, model.tokens[:, 1, 0]]
  square, size = (p**2).sum(-1), (phi**2).sum(-1)
  forms = Pairs(
    (1 - 2 * a + square) * size,
    (1 - 2 * b + square) * size,
    (square - a - b) * size,
  )
  off = max(float(np.abs(x - y).max()) for x, y in zip(got, forms))
  two = Model(0, 1, vocab=2).pairs()
  return [
    Claim(
      YUAN,
      "a single decision: the products are those of the softmax's"
      " probabilities (derived)",
      f"largest error {off:.0e} on {COUNT:,} models",
      off < 1e-10,
    ),
    Claim(
      YUAN,
      "with rho = 1 a single decision is always in the ideal case",
      f"{int(np.sum(~got.ideal()))} of {COUNT:,} are not",
      bool(got.ideal().all()),
    ),
    Claim(
      YUAN,
      "between two outcomes the gradients point apart",
      f"largest inner product {two.inner.max():.1e}",
      bool((two.inner < 0).all()),
    ),
  ]


def prefix_claims() -> list[Claim]:
  """Claims on tokens that both responses share."""
  shares = failures()
  rate = [shares[shared, 1][1.0] for shared in SHARED]
  longer = {own: shares[3, own][1.0] for own in OWN}
  return [
    Claim(
      YUAN,
      "a scored prefix that both share breaks it, more often the longer it is"
      " (derived; one token of their own)",
      "not ideal: "
      + ", ".join(f"{100 * r:.1f} % after {s}" for s, r in zip(SHARED, rate)),
      rate[0] == 0 and all(np.diff(rate) > 0),
    ),
    Claim(
      YUAN,
      "tokens of their own make it rarer (derived; after 3 shared ones)",
      ", ".join(f"{100 * r:.1f} % with {own}" for own, r in longer.items()),
      bool(np.all(np.diff(list(longer.values())) < 0)),
    ),
  ]


def step_claims() -> list[Claim]:
  """Claims on the conditions, checked by real steps."""
  model = Model(3, 2)
  g, pairs, before = model.gradients(), model.pairs(), model.logps(model.w)
  agree, total, reversed_ = 0, 0, 0
  for rho in RHOS:
    up = rho * pairs.chosen - pairs.inner
    down = rho * pairs.inner - pairs.rejected
    step = 1e-6 * (rho * g[:, 0] - g[:, 1])
    moved = model.logps(model.w + step) - before
    # Changes below a thousandth are lost in the rounding of such small steps.
    big = np.minimum(np.abs(up), np.abs(down)) > 1e-3
    same = (moved[:, 0] > 0) == (up > 0)
    same &= (moved[:, 1] > 0) == (down > 0)
    agree, total = agree + int(same[big].sum()), total + int(big.sum())
    reversed_ += int(((up < 0) & (down > 0)).sum())
  norms = np.sqrt(pairs.chosen), np.sqrt(pairs.rejected)
  cosine = pairs.inner / (norms[0] * norms[1])
  unit = 1e-6 * (
    g[:, 0] / norms[0][:, None, None] - g[:, 1] / norms[1][:, None, None]
  )
  moved = model.logps(model.w + unit) - before
  live = cosine < 1 - 1e-3
  wrong = int(((moved[:, 0] < 0) | (moved[:, 1] > 0))[live].sum())
  return [
    Claim(
      YUAN,
      "the conditions on norms, inner product and rho tell which log-probs a"
      " small step of gradient descent raises",
      f"{agree:,} of {total:,} steps at rho = 1/2, 1, 2",
      agree == total,
    ),
    Claim(
      YUAN,
      "chosen down and rejected up is impossible where both pulls are positive",
      f"{reversed_} of {3 * COUNT:,}",
      reversed_ == 0,
    ),
    Claim(
      YUAN,
      "with both gradients divided by their norms neither moves the wrong way"
      " (our reading of the remedy)",
      f"{wrong} of {int(live.sum()):,} steps do",
      wrong == 0,
    ),
  ]


def claims() -> list[Claim]:
  """All claims of this script."""
  return [*closed_forms(), *prefix_claims(), *step_claims()]


def draw() -> Figure:
  """Draws how often the law fails, and where pairs lie."""
  figure = new_figure(9.2, 3.6, "")
  left, right = figure.subplots(1, 2)
  shares = failures()
  for own, colour in zip(OWN, PALETTE):
    for rho, style in ((1.0, "-"), (2.0, "--")):
      rates = [100 * shares[shared, own][rho] for shared in SHARED]
      label = f"{own} own, rho = {rho:g}"
      left.plot(SHARED, rates, style, color=colour, marker="o", label=label)
  left.set(
    xlabel="shared scored tokens before them",
    ylabel="pairs that aren't ideal (%)",
    title="Where chosen up, rejected down fails",
  )
  left.legend(fontsize="x-small", ncols=2)
  for shared, colour in ((0, PALETTE[2]), (3, PALETTE[0]), (8, PALETTE[1])):
    pairs = Model(shared, 1).pairs()
    ratio = np.sqrt(pairs.chosen / pairs.rejected)
    cosine = pairs.inner / np.sqrt(pairs.chosen * pairs.rejected)
    label = f"{shared} shared" if shared else "a single decision"
    right.plot(
      ratio[:1500], cosine[:1500], ".", color=colour, markersize=2, label=label
    )
  grid = np.geomspace(0.2, 5, 200)
  right.plot(grid, np.minimum(grid, 1 / grid), color="#222222", linewidth=1.2)
  right.set(
    xscale="log",
    xlim=(0.2, 5),
    ylim=(-1.05, 1.05),
    xticks=(0.2, 0.5, 1, 2, 5),
    xlabel="|g_w| / |g_l|",
    ylabel="cosine",
    title="Below the line: ideal (rho = 1)",
  )
  right.set_xticklabels(["0.2", "0.5", "1", "2", "5"])
  right.minorticks_off()
  right.legend(fontsize="x-small", markerscale=4, loc="lower left")
  return figure


if __name__ == "__main__":
  out = out_folder(__doc__)
  title = "Gradient entanglement on linear softmax models"
  sys.exit(report("entanglement", title, claims(), draw, out))
