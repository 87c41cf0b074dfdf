"""float64 twins of jalign.losses.diffusion, one pair at a time."""

import math

from tests.oracles.pairwise.scalars import each_pair, log_sigmoid


@each_pair
def diffusion_dpo(m_w, m_l, ref_w, ref_l, *, beta=5000.0):
  return -log_sigmoid(-beta / 2 * ((m_w - m_l) - (ref_w - ref_l)))


@each_pair
def mapo(m_w, m_l, *, beta=0.1, timesteps=1000.0, scale=0.5):
  reward = lambda m: scale * m / math.expm1(scale * m) if m else 1.0
  return m_w - beta * log_sigmoid(timesteps * (reward(m_w) - reward(m_l)))
