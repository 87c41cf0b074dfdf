"""Losses whose gradients are those of expected rewards, from samples."""

from jalign.losses.policy_gradient.distributional import (
  f_dpg_forward_chi2,
  f_dpg_forward_kl,
  f_dpg_js,
  f_dpg_reverse_chi2,
  f_dpg_reverse_kl,
  f_dpg_tv,
)
from jalign.losses.policy_gradient.group_relative import dr_grpo, grpo, rloo
from jalign.losses.policy_gradient.ppo import ppo_clip, value_clip
from jalign.losses.policy_gradient.preference_game import (
  nash_md,
  nash_md_token_kl,
)
from jalign.losses.policy_gradient.score_function import reinforce, remax
from jalign.losses.policy_gradient.two_samples import p3o, p3o_joint

__all__ = [
  "dr_grpo",
  "f_dpg_forward_chi2",
  "f_dpg_forward_kl",
  "f_dpg_js",
  "f_dpg_reverse_chi2",
  "f_dpg_reverse_kl",
  "f_dpg_tv",
  "grpo",
  "nash_md",
  "nash_md_token_kl",
  "p3o",
  "p3o_joint",
  "ppo_clip",
  "reinforce",
  "remax",
  "rloo",
  "value_clip",
]
