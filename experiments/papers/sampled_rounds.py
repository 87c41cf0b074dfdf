"""What rounds of online algorithms sample, beside what papers say of them.

The rows of `jalign.online` play the enumerated game of 27 responses, by the
decode loop of language models. Claims compare the batches that come out with
sums over all responses; `updates` and `sampling_laws` list the claims.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.papers.claims import Claim
from experiments.papers.sequences import kl
from jalign import losses
from jalign.data import PromptBatch
from jalign.feedback import Judge
from jalign.games import sequence_game, tables
from jalign.online import ALGORITHMS, bind, make_round

GAME = sequence_game.cyclic_game()
V, L = GAME.vocab_size, GAME.length
N = V**L
RAFT = "Dong et al. 2023, arXiv:2304.06767; best-of-n"
INPO = "Zhang et al. 2024, arXiv:2407.00617"
SPPO = "Wu et al. 2024, arXiv:2405.00675"
PREFERENCES = np.asarray(GAME.preferences())
REFERENCE = np.asarray(GAME.log_reference)
TAU, ETA = 0.1, 0.4
PROMPTS = 32_768
FAR = 4.0  # standard errors that a true claim may be off


def _places(texts) -> np.ndarray:
  return np.array([int(text.replace(" ", ""), V) for text in texts])


def _params(log_policy: np.ndarray) -> dict[str, jax.Array]:
  table = tables.table_of(log_policy, V)
  return {"logits": jnp.asarray(np.asarray(table, np.float32))}


def played(
  name: str,
  log_policy: np.ndarray,
  *,
  prompts: int,
  seed: int = 0,
  rewards: np.ndarray | None = None,
  **settings: Any,
) -> tuple[Any, np.ndarray]:
  """A round of an algorithm in which one policy is all models but the start.

  Args:
    name: a row of `ALGORITHMS`.
    log_policy: [N] log-probs of the policy, finite.
    prompts: number of prompts, which are all the same.
    seed: seed of the round.
    rewards: [N] rewards of responses, if the judge shall have them.
    **settings: hyperparameters of the algorithm.

  Returns:
    The batch of the round's update, and [R] the number of each row's response.
  """
  algorithm = bind(ALGORITHMS[name], settings)
  judge = Judge(
    reward=None
    if rewards is None
    else lambda answers: rewards[_places(answers.texts)],
    preference=lambda a, b: PREFERENCES[_places(a.texts), _places(b.texts)],
  )
  play = make_round(
    algorithm,
    tables.tabular(V, L),
    judge,
    sequence_game.decode,
    max_new_tokens=L,
    stop_ids=(),
  )
  params = _params(log_policy)
  given = PromptBatch(
    np.zeros((prompts, 1), np.int32),
    np.ones(prompts, np.int32),
    np.ones(prompts, np.float32),
    [""] * prompts,
  )
  carry = algorithm.carry.init(params)
  key = jax.random.key(seed)
  got = play(params, _params(REFERENCE), given, key, carry)
  (batch,) = got.batches
  tokens = np.asarray(batch.sequences.tokens)[:, 1:]
  return batch, tokens @ V ** np.arange(L)[::-1]


def _policies(count: int) -> np.ndarray:
  """[count, N] log-probs of random policies."""
  drawn = np.random.default_rng(0).normal(size=(count, N))
  return drawn - np.log(np.exp(drawn).sum(-1, keepdims=True))


def _labelled(log_policy, batch, at, old):
  """[P] INPO's losses of a round's pairs, by the library's function."""
  with jax.enable_x64(True):
    of = lambda x: tuple(jnp.asarray(x)[at.reshape(-1, 2)].T)
    preference = jnp.asarray(np.asarray(batch.preference, np.float64))
    return losses.inpo(
      *of(log_policy), *of(REFERENCE), *of(old), preference, tau=TAU, eta=ETA
    )


def _by_win_rates(log_policy, old) -> float:
  """INPO's loss on exact win rates, summed over all pairs."""
  q = np.exp(old)
  gap = lambda x: x[:, None] - x[None]
  h = gap(log_policy - TAU / ETA * REFERENCE - (1 - TAU / ETA) * old)
  return float(q @ (h - gap(PREFERENCES @ q) / ETA) ** 2 @ q)


def _error(numbers: np.ndarray) -> float:
  return float(numbers.std(ddof=1) / np.sqrt(len(numbers)))


def _slopes(log_policy, batch, at, old) -> tuple[np.ndarray, np.ndarray]:
  """[N] gradients of the mean loss in the log-probs, and standard errors."""
  with jax.enable_x64(True):
    pair = at.reshape(-1, 2)
    total = lambda x: _labelled(x, batch, at, old).sum()
    mean = np.asarray(jax.grad(total)(jnp.asarray(log_policy))) / len(pair)
    # A pair's slope in its first log-prob; in the second, minus that.
    m = log_policy - TAU / ETA * REFERENCE - (1 - TAU / ETA) * old
    p = np.asarray(batch.preference, np.float64)
    slope = 2 * (m[pair[:, 0]] - m[pair[:, 1]] - (2 * p - 1) / (2 * ETA))
  squares = np.bincount(pair[:, 0], slope**2, N)
  squares += np.bincount(pair[:, 1], slope**2, N)
  return mean, np.sqrt(squares) / len(pair)


def inpo_claims(prompts: int = PROMPTS, sign: int = 1) -> list[Claim]:
  """INPO's proposition 6 and its minimiser, on sampled pairs.

  Args:
    prompts: number of pairs.
    sign: -1 turns the mirror step around, which breaks its claim.
  """
  old, *others = _policies(5)
  batch, at = played("inpo", old, prompts=prompts)
  own = [np.asarray(_labelled(x, batch, at, old)) for x in others]
  exact = [_by_win_rates(x, old) for x in others]
  far, gaps = [], []
  for sampled, by_wins in zip(own[1:], exact[1:]):
    difference = sampled - own[0] - (by_wins - exact[0])
    gaps.append(difference.mean())
    far.append(abs(gaps[-1]) / _error(difference))
  step = (1 - TAU / ETA) * old + TAU / ETA * REFERENCE
  step += sign * (PREFERENCES @ np.exp(old)) / ETA
  step -= np.log(np.exp(step).sum())
  z = lambda x: float(np.abs(np.divide(*_slopes(x, batch, at, old))).max())
  there, here = z(step), z(old)
  return [
    Claim(
      INPO,
      "the loss on sampled pairs is that on win rates plus a constant"
      " (prop. 6)",
      f"{prompts:,} pairs of the row `inpo`: over 4 policies the constant"
      f" differs by {np.abs(gaps).max():.3f}, {max(far):.1f} standard errors",
      bool(max(far) < FAR),
    ),
    Claim(
      INPO,
      "the loss on sampled pairs is smallest at the mirror step, of 1 / eta",
      f"largest of 27 slopes: {there:.1f} standard errors there,"
      f" {here:.0f} at the iterate",
      there < FAR < here,
    ),
  ]


def sppo_claims(prompts: int = PROMPTS // 4) -> list[Claim]:
  """What the win rates that SPPO's row takes from K samples estimate.

  Args:
    prompts: number of prompts.
  """
  (policy,) = _policies(1)
  wins = PREFERENCES @ np.exp(policy) - 0.5
  slopes, errors = {}, {}
  for size in (2, 5):
    batch, at = played("sppo", policy, prompts=prompts, samples=size)
    x, y = wins[at], np.asarray(batch.preference, np.float64) - 0.5
    slopes[size] = float(x @ y / (x @ x))
    # Responses to a prompt share their rivals.
    left = (x * (y - slopes[size] * x)).reshape(-1, size).sum(1)
    errors[size] = float(np.sqrt(np.sum(left**2)) / (x @ x))
  off = [abs(slopes[k] - (k - 1) / k) / errors[k] for k in slopes]
  return [
    Claim(
      "ours, on Wu et al. 2024",
      "a win rate over K samples that counts the response itself is nearer to"
      " 1/2: (K - 1) / K of the way, so that eta is effectively smaller",
      "; ".join(
        f"K = {k}: {slopes[k]:.4f} ± {errors[k]:.4f}, expected"
        f" {(k - 1) / k:.4f}"
        for k in slopes
      ),
      max(off) < FAR and (1 - slopes[5]) / errors[5] > FAR,
    )
  ]


def raft_claims(
  prompts: int = 2 * PROMPTS, size: int = 4, power: int = 4
) -> list[Claim]:
  """RAFT's law by rounds, where each round's fit is that of its own samples.

  Args:
    prompts: number of prompts of a round.
    size: K, the number of responses to a prompt.
    power: number whose powers are the laws' n; any but K breaks the claim.
  """
  rewards = np.random.default_rng(1).normal(size=N)  # no two are equal
  order = np.argsort(rewards)
  base = np.exp(REFERENCE)
  above = np.cumsum(base[order])
  policy, costs, expected, far = REFERENCE, [], [], []
  for t in (1, 2, 3):
    _, at = played(
      "raft", policy, prompts=prompts, seed=t, rewards=rewards, samples=size
    )
    # The most likely table is that of the samples' shares.
    shares = np.bincount(at, minlength=N) / len(at)
    law = np.zeros(N)
    law[order] = np.diff(np.minimum(above, 1) ** power**t, prepend=0)
    costs.append(kl(shares, base))
    expected.append(kl(law, base))
    far.append(np.abs(shares - law).sum() / 2)
    policy = np.log(np.maximum(shares, 1e-12))
  row = lambda numbers: ", ".join(f"{x:.4f}" for x in numbers)
  return [
    Claim(
      RAFT,
      f"three rounds of the row `raft`, K = {size}, end at best-of-"
      f"{size}, {size**2} and {size**3} of the start, each fitted to its own"
      " samples",
      f"{prompts:,} prompts a round, 27 responses: KL {row(costs)}, exact"
      f" {row(expected)}; total variation {row(far)}",
      bool(max(far) < np.sqrt(N / prompts)),
    )
  ]
