"""A gold reward that is optimised through a proxy, on finite sets.

The gold reward is N(0, 1). The proxy adds an error, which is light-tailed,
heavy-tailed, or large where gold is bad. KL is in nats; d is its square root.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from experiments.papers.claims import Claim
from experiments.papers.frontiers import (
  FORMS,
  cells,
  gao,
  strength_of,
  tilted,
)
from experiments.papers.sampling_laws import best_of_n
from experiments.papers.sequences import kl

GAO = "Gao, Schulman, Hilton 2022, arXiv:2210.10760"
KWA = "Kwa, Thomas, Garriga-Alonso 2024, arXiv:2407.14503"
OURS = "ours, on Gao et al. 2022"
METHODS = ("best of n", "tilting")
MOST = 9.0  # largest KL of the paths, nats; that of the best of 22,000
TAILS = (1e-4, 1e-6, 1e-8)
NORMAL, HEAVY = stats.norm(), stats.t(3, scale=0.5)


class Proxy(NamedTuple):
  """A set of responses with two rewards, each less its mean.

  Attributes:
    p: [K] base probabilities, in rising order of the proxy.
    gold: [K] the reward that counts.
    proxy: [K] gold + error, the reward that is optimised.
  """

  p: np.ndarray
  gold: np.ndarray
  proxy: np.ndarray


class Path(NamedTuple):
  """Gains of the two rewards while optimisation gets stronger.

  Attributes:
    at: [N] n of best-of-n, or the strength of the tilt.
    d: [N] sqrt(KL), ascending.
    gold: [N] gain of the gold reward.
    proxy: [N] gain of the proxy.
  """

  at: np.ndarray
  d: np.ndarray
  gold: np.ndarray
  proxy: np.ndarray

  def evenly(self, count: int = 60) -> "Path":
    """The path at evenly spaced d, without 0; linear between its points."""
    d = np.linspace(0, self.d[-1], count + 1)[1:]
    return Path(*(np.interp(d, self.d, column) for column in self))


def proxy_set(
  parts: Sequence[tuple[float, Any, Any]], tail: float = 1e-6, count: int = 141
) -> Proxy:
  """The set of all pairs of a cell of gold's law and a cell of the error's.

  Args:
    parts: (share, law of gold, law of the error) of each kind of responses;
      gold and error are independent within a kind.
    tail: probability of the outermost cell of each law.
    count: number of cells of each law.
  """
  columns = []
  for share, gold, error in parts:
    (p, g), (q, e) = cells(gold, count, tail), cells(error, count, tail)
    both = share * np.outer(p, q), g[:, None] + 0 * e, g[:, None] + e
    columns.append([x.ravel() for x in both])
  p, gold, proxy = (np.concatenate(x) for x in zip(*columns))
  order = np.argsort(proxy, kind="stable")
  p, gold, proxy = p[order], gold[order], proxy[order]
  return Proxy(p, gold - p @ gold, proxy - p @ proxy)


def _path(world: Proxy, at: np.ndarray, law: Callable) -> Path:
  rows = []
  for x in at:
    q = law(x)
    d = np.sqrt(max(kl(q, world.p), 0.0))
    rows.append((x, d, q @ world.gold, q @ world.proxy))
  return Path(*np.array(rows).T)


def best_of_n_path(world: Proxy, most: float, count: int = 60) -> Path:
  """Best-of-n by the proxy, for n from 1 to `most`, integer or not."""
  at = np.geomspace(1, most, count)
  return _path(world, at, lambda n: best_of_n(world.p, n))


def tilted_path(world: Proxy, most: float, count: int = 60) -> Path:
  """Tilting by the proxy, up to a KL of `most` nats."""
  top = strength_of(world.p, world.proxy, most)
  at = np.concatenate([[0], np.geomspace(1e-3 * top, top, count)])
  law = lambda x: tilted(world.p, world.proxy, x)
  # d may jump within a narrow range of strengths: the second path fills it.
  rough = _path(world, at, law)
  d = np.linspace(0, rough.d[-1], count)
  return _path(world, np.interp(d, rough.d, at), law)


@functools.cache
def worlds() -> dict[str, Proxy]:
  """The sets with the three kinds of errors, by name."""
  exploits = (0.01, stats.norm(-2, 1), stats.norm(4, 1.5))
  return {
    "Gaussian error": proxy_set([(1, NORMAL, NORMAL)]),
    "heavy-tailed error": proxy_set([(1, NORMAL, HEAVY)]),
    "1 % exploits": proxy_set([(0.99, NORMAL, NORMAL), exploits]),
  }


@functools.cache
def path(world: str, method: str) -> Path:
  """The path of a method in one of the worlds, up to a d of about 3."""
  if method == "tilting":
    return tilted_path(worlds()[world], MOST)
  return best_of_n_path(worlds()[world], np.exp(MOST + 1))


def fits() -> dict[tuple[str, str], dict[str, float]]:
  """(world, method) -> form -> R^2 of gold over evenly spaced d."""
  r_squared = {}
  for key in itertools.product(worlds(), METHODS):
    even = path(*key).evenly()
    r_squared[key] = {form: gao(even.d, even.gold, form)[-1] for form in FORMS}
  return r_squared


def _told(world: str) -> dict[str, str]:
  """method -> its largest gold and its last gold, in words."""
  words = {}
  for method in METHODS:
    x = path(world, method)
    i = x.gold.argmax()
    words[method] = (
      f"{method} {x.gold[i]:.3f} at d = {x.d[i]:.2f},"
      f" {x.gold[-1]:.3f} at {x.d[-1]:.2f}"
    )
  return words


def _falls(world: str, method: str) -> bool:
  """Whether less than half of the largest gold is left at the end."""
  gold = path(world, method).gold
  return bool(gold[-1] < gold.max() / 2)


def proxy_claims() -> list[Claim]:
  """What the gold reward does while a proxy is optimised."""
  light, heavy, exploits = map(_told, worlds())
  names = list(worlds())
  both = [path(names[0], method) for method in METHODS]
  off = max(np.abs(x.gold[1:] / x.proxy[1:] - 0.5).max() for x in both)
  tilts = [path(name, "tilting").gold for name in names[:2]]
  rising = min(np.diff(gold).min() for gold in tilts)
  most = [
    tilted_path(proxy_set([(1, NORMAL, HEAVY)], tail), MOST, 20).gold.max()
    for tail in TAILS
  ]
  return [
    Claim(
      OURS,
      "gold and error Gaussian, of equal variances: gold gains half of the"
      " proxy's gain and never falls",
      f"within {off:.1g} of 1/2; {'; '.join(light.values())}",
      off < 2e-3 and all(np.diff(x.gold).min() > 0 for x in both),
    ),
    Claim(
      OURS,
      "a heavy-tailed error (half a t of 3 degrees) makes best-of-n's gold"
      " peak and fall",
      heavy["best of n"],
      _falls(names[1], "best of n"),
    ),
    Claim(
      OURS,
      "tilting's gold can't fall while gold and error are independent: its"
      " slope in the strength is gold's variance",
      f"smallest of {sum(map(len, tilts)) - 2} steps {rising:.1g};"
      f" {heavy['tilting']}",
      rising > 0,
    ),
    Claim(
      KWA,
      "but with heavy tails it gains next to nothing: the KL goes into the"
      " error",
      f"largest gold up to {MOST:g} nats, tails cut at"
      f" {', '.join(f'{x:g}' for x in TAILS)}:"
      f" {', '.join(f'{x:.3f}' for x in most)}",
      most[0] > 2 * most[1] > 4 * most[2],
    ),
    Claim(
      OURS,
      "if 1 % of responses are worse and please the proxy, both peak and fall,"
      " though all tails are light",
      "; ".join(exploits.values()),
      all(_falls(names[2], method) for method in METHODS),
    ),
    *form_claims(),
  ]


def form_claims() -> list[Claim]:
  """Gao et al.'s two forms, fitted to gold of both methods in each world."""
  r_squared = fits()
  shown = lambda method, own, other: "; ".join(
    f"{w} {r_squared[w, method][own]:.3f} ({r_squared[w, method][other]:.3f})"
    for w in worlds()
  )
  ahead = [
    r_squared[w, "best of n"]["d"] > r_squared[w, "best of n"]["log d"]
    for w in worlds()
  ]
  _, heavy, exploits = (r_squared[w, "tilting"] for w in worlds())
  world = worlds()["1 % exploits"]
  p, gold, proxy = world
  slope = np.sqrt(2) * (p @ (gold * proxy)) / np.sqrt(p @ proxy**2)
  q = tilted(p, proxy, 1e-4)
  near = float(q @ gold / np.sqrt(kl(q, p)))
  return [
    Claim(
      GAO,
      "best-of-n's gold is closer to d (alpha - beta d) than to"
      " d (alpha - beta log d)",
      f"R^2 up to d = 3: {shown('best of n', 'd', 'log d')}",
      all(ahead),
    ),
    Claim(
      OURS,
      "for tilting, d (alpha - beta log d) isn't always the closer one, and"
      " no law where gold stalls or falls (R^2 < 0.95)",
      f"R^2 up to d = 3: {shown('tilting', 'log d', 'd')}",
      max(heavy["log d"], exploits["log d"]) < 0.95
      and (heavy["log d"] > heavy["d"]) != (exploits["log d"] > exploits["d"]),
    ),
    Claim(
      OURS,
      "at d = 0 its slope is infinite; tilting's is"
      " sqrt(2) Cov(gold, proxy) / sd(proxy)",
      f"1 % exploits, strength 1e-4: {near:.5f}, formula {slope:.5f}",
      abs(near / slope - 1) < 1e-3,
    ),
  ]
