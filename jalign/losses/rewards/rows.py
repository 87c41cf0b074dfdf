"""The catalogue's rows of losses that train reward and preference models."""

from collections.abc import Callable

from jalign.losses.entry import Entry
from jalign.losses.rewards import (
  contrastive,
  critique,
  more,
  objectives,
  preference_model,
  raters,
  scalar,
)
from jalign.types import Array


def _balanced(function: Callable[..., Array]) -> Entry:
  """A form of MORE."""
  return Entry(
    function,
    "scores",
    "2312.07401",
    coupled=True,
    monotone=False,
    detached=True,
  )


REWARD_MODELS: dict[str, Entry] = {
  "bradley_terry": Entry(scalar.bradley_terry, "scores", "2009.01325"),
  "bradley_terry_margin": Entry(
    scalar.bradley_terry_margin, "scores", "2307.09288"
  ),
  "bradley_terry_soft": Entry(
    scalar.bradley_terry_soft, "scores", "1706.03741", monotone=False
  ),
  "bradley_terry_list": Entry(
    scalar.bradley_terry_list, "scores", "2203.02155"
  ),
  "pairwise_preference": Entry(
    preference_model.pairwise_preference, "scores", "2312.00886", monotone=False
  ),
  "pairwise_preference_averaged": Entry(
    preference_model.pairwise_preference_averaged,
    "scores",
    "2312.00886",
    monotone=False,
  ),
  "general_preference": Entry(
    preference_model.general_preference, "scores", "2410.02197", monotone=False
  ),
  "cost_model": Entry(scalar.cost_model, "scores", "2310.12773"),
  "binary_discrimination": Entry(
    objectives.binary_discrimination, "scores", "2112.00861"
  ),
  "objective_bradley_terry": Entry(
    objectives.objective_bradley_terry, "scores", paper="", monotone=False
  ),
  "rating_regression": Entry(
    objectives.rating_regression, "scores", "2406.12845", monotone=False
  ),
  "rating_logistic": Entry(
    objectives.rating_logistic, "scores", "2112.00861", monotone=False
  ),
  "critique_reward": Entry(critique.critique_reward, "scores", "2502.10391"),
  "simcse": Entry(
    contrastive.simcse, "scores", "2401.06080", coupled=True, monotone=False
  ),
  "simcse_differences": Entry(
    contrastive.simcse_differences,
    "scores",
    "2401.06080",
    coupled=True,
    monotone=False,
  ),
  "more": _balanced(more.more),
  "more_l2": _balanced(more.more_l2),
  "more_loss": _balanced(more.more_loss),
  "more_loss_plus": _balanced(more.more_loss_plus),
  # ------------------------------------------------ models that know the rater
  "vpl": Entry(raters.vpl, "raters", "2408.10075"),
  "pal_logistic": Entry(raters.pal_logistic, "rater_pairs", "2406.08469"),
  "pal_hinge": Entry(raters.pal_hinge, "rater_pairs", "2406.08469"),
}
