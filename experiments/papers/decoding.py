"""Rewards at decoding time: Transfer Q*, DeAL, AlignDistil on 27 sequences.

python -m experiments.papers.decoding --out=runs/papers

The base policy and the rewards are random, with three tokens, three steps and
every sequence enumerated. Cost: 4 s on a CPU core.
"""

import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.papers.claims import Claim, out_folder, report
from experiments.papers.sequences import (
  composed,
  expected_later,
  kl,
  normalized,
  tilted,
  token_policy,
)
from jalign import losses
from jalign.pages.style import PALETTE, new_figure

TQ = "Chakraborty et al. 2024, arXiv:2405.20495"
DEAL = "Huang et al. 2024, arXiv:2402.06147"
ALIGN = "Zhang et al. 2025, arXiv:2503.02832"
SHAPE, BETA = (3, 3, 3), 0.5
ALPHAS = (1.0, 0.5, 0.1, 0.02)
GAMES = 500
LOOKAHEADS = ("exhaustive", "greedy", "none")


def game(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
  """(base probabilities, rewards), both [3, 3, 3]."""
  rng = np.random.default_rng(seed)
  steps = [rng.normal(size=SHAPE[: t + 1]) for t in range(3)]
  base = composed(tilted([np.ones_like(z) for z in steps], steps))
  return base, rng.normal(size=SHAPE)


def optimum(base: np.ndarray, rewards: np.ndarray, beta: float) -> np.ndarray:
  """The policy over sequences that maximises E r - beta KL(policy, base)."""
  return normalized(np.log(base) + rewards / beta)


def decoded(base: np.ndarray, values: Sequence[np.ndarray], alpha: float):
  """The law of decoding token by token with base(token) exp(value / alpha)."""
  scores = [value / alpha for value in values]
  return composed(tilted(token_policy(base), scores))


def soft_values(base, rewards, beta: float, sign: float = 1.0):
  """beta log E_base exp(r / beta) of each prefix's completions.

  `sign` is that of the rewards; -1 is a deliberate mistake, for tests.
  """
  later = expected_later(base, np.exp(sign * rewards / beta))
  return [beta * np.log(x) for x in later]


def transfer_values(base, rewards, beta: float):
  """TQ*: the mean reward of completions by the aligned model."""
  return expected_later(optimum(base, rewards, beta), rewards)


def indirect_values(base, rewards, other, beta: float):
  """TQ* from a model aligned to other rewards, reweighted per prefix."""
  rho = optimum(base, other, beta)
  weights = np.exp((rewards - other) / beta)
  above = expected_later(rho, weights * rewards)
  return [a / b for a, b in zip(above, expected_later(rho, weights))]


def _worst(first, second) -> float:
  return float(max(np.abs(a - b).max() for a, b in zip(first, second)))


LAWS = {
  "optimum": optimum,
  "TQ*": lambda base, rewards, alpha: decoded(
    base, transfer_values(base, rewards, BETA), alpha
  ),
  "Q of the base": lambda base, rewards, alpha: decoded(
    base, expected_later(base, rewards), alpha
  ),
}


def earned(alphas: Sequence[float] = ALPHAS) -> list[list[dict[str, float]]]:
  """E r of each law, as [game][alpha]."""
  means = lambda base, rewards, alpha: {
    name: float(np.sum(law(base, rewards, alpha) * rewards))
    for name, law in LAWS.items()
  }
  return [[means(*game(seed), a) for a in alphas] for seed in range(GAMES)]


def transfer_claims(sign: float = 1.0) -> list[Claim]:
  """Claims on soft Q, TQ*, base Q; a sign of -1 is a mistake, for tests."""
  base, rewards = game()
  best = optimum(base, rewards, BETA)
  soft = soft_values(base, rewards, BETA, sign)
  off = np.abs(decoded(base, soft, BETA) - best).max()
  direct = transfer_values(base, rewards, BETA)
  # KL(aligned || base) over the completions of each prefix.
  apart = expected_later(best, np.log(best / base))
  for t, (p, q) in enumerate(zip(_prefix_laws(best), _prefix_laws(base))):
    apart[t] = apart[t] - np.log(p / q)
  above = _worst(direct, [s + BETA * k for s, k in zip(soft, apart)])
  other = game(1)[1]
  indirect = indirect_values(base, rewards, other, BETA)
  same = _worst(direct, indirect)
  gain_of = lambda mean: mean["TQ*"] - mean["Q of the base"]
  gains = np.array([[gain_of(mean) for mean in row] for row in earned()])
  gain, error = gains.mean(0), gains.std(0, ddof=1) / np.sqrt(GAMES)
  text = ", ".join(f"{g:.4f} ± {e:.4f}" for g, e in zip(gain, error))
  more, less = (gains[:, -1] > 0.01).sum(), (gains[:, -1] < -0.01).sum()
  return [
    Claim(
      TQ,
      "decoding with the soft Q, token by token, is base exp(r / beta) / Z",
      f"27 sequences: within {off:.1g}",
      off < 1e-15,
    ),
    Claim(
      "ours, on Chakraborty et al. 2024",
      "TQ* is the soft Q plus beta KL(aligned || base) of the rest",
      f"within {above:.1g}",
      above < 1e-14,
    ),
    Claim(
      TQ,
      "indirect transfer: exp((r - r_BL) / beta), normalised, makes a model"
      " aligned to other rewards give the same TQ*",
      f"within {same:.1g}",
      same < 1e-14,
    ),
    Claim(
      TQ,
      "TQ* earns more than Q of the base (controlled decoding), on average",
      f"{GAMES} random games, alpha {'/'.join(f'{a:g}' for a in ALPHAS)}: E r"
      f" higher by {text}",
      bool((gain > 4 * error).all()),
    ),
    Claim(
      "ours, on Chakraborty et al. 2024",
      "but not in every game",
      f"alpha {ALPHAS[-1]:g}: 0.01 more in {more} of {GAMES}, less in {less}",
      bool(0 < less < more),
    ),
  ]


def _prefix_laws(p: np.ndarray) -> list[np.ndarray]:
  """Probabilities of the prefixes of 1, 2 and 3 tokens."""
  return [p.sum((1, 2)), p.sum(2), p]


def deal(base, rewards, lookahead: str, alpha: float = 1.0) -> tuple[int, ...]:
  """The sequence that DeAL decodes if every token is a candidate.

  Each token maximises log base(prefix) + lookahead.

  Args:
    base: [3, 3, 3] probabilities.
    rewards: [3, 3, 3].
    lookahead: "exhaustive" is that of the best completion, with its log-prob;
      "greedy" is alpha times the reward after the likeliest completion; "none"
      counts only the reward of a whole sequence.
    alpha: weight of the reward.
  """
  tokens = token_policy(base)
  prefix: tuple[int, ...] = ()
  for t in range(3):
    scores = []
    for token in range(3):
      now = (*prefix, token)
      so_far = sum(np.log(tokens[i][now[: i + 1]]) for i in range(t + 1))
      if lookahead == "exhaustive":
        whole = np.log(base[now]) + alpha * rewards[now]
        scores.append(np.max(whole))
        continue
      end = now
      while lookahead == "greedy" and len(end) < 3:
        end = (*end, int(tokens[len(end)][end].argmax()))
      scores.append(so_far + (alpha * rewards[end] if len(end) == 3 else 0))
    prefix = (*prefix, int(np.argmax(scores)))
  return prefix


def deal_shares() -> dict[str, tuple[float, float]]:
  """Lookahead -> (share of games in which the best is found, mean loss)."""
  lost: dict[str, list[float]] = {name: [] for name in LOOKAHEADS}
  for seed in range(GAMES):
    base, rewards = game(seed)
    score = np.log(base) + rewards
    for name in LOOKAHEADS:
      value = float(score[deal(base, rewards, name)])
      lost[name].append(float(score.max()) - value)
  return {
    name: (float(np.mean(np.array(x) < 1e-12)), float(np.mean(x)))
    for name, x in lost.items()
  }


def deal_claims() -> list[Claim]:
  """Claims on what a lookahead is worth."""
  worth = deal_shares()
  shown = ", ".join(
    f"{name} {share:.1%} (loses {loss:.3f})"
    for name, (share, loss) in worth.items()
  )
  shares = [share for share, _ in worth.values()]
  return [
    Claim(
      DEAL,
      "a full lookahead over all tokens finds the argmax of log p + alpha r;"
      " without one it is myopic",
      f"alpha 1, {GAMES} random games, the best found: {shown}",
      shares[0] == 1 > shares[1] > shares[2],
    )
  ]


def distilled(base: np.ndarray, dpo: np.ndarray, w: float) -> np.ndarray:
  """The law of the teacher, base^(1 - w) dpo^w, token by token."""
  gaps = [w * np.log(d / b) for d, b in zip(*map(token_policy, (dpo, base)))]
  return composed(tilted(token_policy(base), gaps))


def align_gap(w: float) -> tuple[float, float, float]:
  """(beta2 KL(teacher || optimum), value of the optimum, of the teacher)."""
  base, rewards = game()
  beta = BETA / w
  best = optimum(base, rewards, beta)
  teacher = distilled(base, optimum(base, rewards, BETA), w)
  value = lambda p: float(np.sum(p * rewards)) - beta * kl(p, base)
  return beta * kl(teacher, best), value(best), value(teacher)


def rows(p: np.ndarray) -> np.ndarray:
  """[27, 3, 3] log-probs of all tokens at each step of each sequence."""
  steps = [z.reshape(-1, 3) for z in token_policy(p)]
  spread = [np.repeat(z, 27 // len(z), 0) for z in steps]
  return np.log(np.stack(spread, 1))


def align_claims(sign: float = 1.0) -> list[Claim]:
  """Claims on AlignDistil's losses; sign -1 is a mistake, for tests."""
  base, rewards = game()
  dpo = optimum(base, sign * rewards, BETA)
  student, w = game(7)[0], 2.0
  teacher = distilled(base, optimum(base, rewards, BETA), w)
  mask = np.ones((27, 3), bool)
  with jax.enable_x64(True):
    logits = [jnp.asarray(rows(p)) for p in (student, dpo, base)]
    row_losses = losses.token_distillation(
      *logits, mask, beta=BETA / w, dpo_beta=BETA
    )
    contrast = losses.align_distil(*logits, mask, beta=0.1, extrapolation=15.0)
  own = float(student.ravel() @ np.asarray(row_losses))
  exact = BETA / w * kl(student, teacher)
  apart = np.abs(np.asarray(contrast) - _contrast(student, dpo)).max()
  gap, best, reached = align_gap(w)
  _, unit_best, same = align_gap(1.0)
  return [
    Claim(
      ALIGN,
      "theorem 1's loss on the student's own samples is beta2 KL(student ||"
      " teacher), the teacher's logits w z_dpo + (1 - w) z_ref",
      f"w = 2: {own:.12f}, summed {exact:.12f}",
      abs(own - exact) < 1e-14,
    ),
    Claim(
      ALIGN,
      "the contrastive loss with adaptive w (beta 0.1, extrapolation 15)",
      f"jalign and NumPy within {apart:.1g} on 27 sequences",
      apart < 1e-13,
    ),
    Claim(
      "ours, on Zhang et al. 2025",
      "the teacher isn't RLHF's optimum: w = 2 lacks beta2 KL(teacher ||"
      " optimum) of its value",
      f"{reached:.6f} against {best:.6f}: lacks {best - reached:.6f}, beta2 KL"
      f" {gap:.6f}",
      gap > 1e-4 and abs(best - reached - gap) < 1e-14,
    ),
    Claim(
      "ours, on Zhang et al. 2025",
      "at w = 1 it is",
      f"lacks {abs(unit_best - same):.1g}",
      abs(unit_best - same) < 1e-14,
    ),
  ]


def _contrast(student: np.ndarray, dpo: np.ndarray) -> np.ndarray:
  """AlignDistil's loss [27], written out; the base is the reverse model."""
  z, plus, minus = map(rows, (student, dpo, game()[0]))
  w = 15 * np.abs(np.exp(plus) - np.exp(minus)).sum(-1, keepdims=True) + 1e-3
  teacher = plus + w * (plus - minus)
  teacher = teacher - np.log(np.exp(teacher).sum(-1, keepdims=True))
  return (0.1 / w[..., 0] * (np.exp(z) * (z - teacher)).sum(-1)).mean(-1)


def claims() -> list[Claim]:
  """All claims of this script."""
  return [*transfer_claims(), *deal_claims(), *align_claims()]


def draw() -> Figure:
  """Draws reward against alpha, DeAL's lookaheads, and AlignDistil's gap."""
  figure = new_figure(12.5, 3.9, "Rewards at decoding time, 27 sequences")
  front, share, gaps = figure.subplots(1, 3)
  alphas = np.geomspace(0.02, 10, 25)
  means = earned(alphas.tolist())
  for name, colour in zip(LAWS, (PALETTE[6], PALETTE[0], PALETTE[1])):
    curve = np.mean([[x[name] for x in row] for row in means], 0)
    dash = ":" if name == "optimum" else "-"
    front.plot(alphas, curve, dash, color=colour, label=name)
  front.set(xscale="log", xlabel="alpha", ylabel="E r, mean of 500 games")
  front.xaxis.set_major_formatter("{x:g}")
  front.set_title("base exp(value / alpha); TQ* with beta = 0.5")
  front.legend(frameon=False, fontsize=8)
  shares = deal_shares()
  heights = [100 * shares[name][0] for name in LOOKAHEADS]
  bars = share.bar(LOOKAHEADS, heights, 0.6, color=PALETTE[0])
  share.bar_label(bars, fmt="{:.0f}", fontsize=9)
  share.set(ylabel="% of 500 games", xlabel="lookahead", ylim=(0, 110))
  share.grid(axis="x", visible=False)
  share.set_title("DeAL finds argmax log p + r")
  w = np.linspace(0.02, 6, 120)
  gaps.plot(w, [align_gap(x)[0] for x in w], color=PALETTE[0])
  gaps.plot([1], [0], "o", color=PALETTE[1], markersize=7, label="w = 1: none")
  gaps.set(xlabel="w = beta1 / beta2", ylabel="value lost", ylim=(0, None))
  gaps.set_title("AlignDistil lacks beta2 KL(teacher, optimum)")
  gaps.legend(frameon=False, fontsize=8)
  return figure


if __name__ == "__main__":
  out = out_folder(__doc__)
  title = "Rewards at decoding time"
  sys.exit(report("decoding", title, claims(), draw, out))
