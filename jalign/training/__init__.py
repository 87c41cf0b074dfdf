"""Training: an objective, an update, a loop; online sampling; checkpoints."""

from jalign.training.checkpoint import Checkpoints
from jalign.training.distillation import align_distil_streamed
from jalign.training.metrics import combine
from jalign.training.objective import make_evaluation, make_objective
from jalign.training.online import ALGORITHMS, make_sampling
from jalign.training.optimizer import OptimizerConfig, make_optimizer
from jalign.training.state import TrainState, init_state, state_shardings
from jalign.training.step import make_update

__all__ = [
  "ALGORITHMS",
  "Checkpoints",
  "OptimizerConfig",
  "TrainState",
  "align_distil_streamed",
  "combine",
  "init_state",
  "make_evaluation",
  "make_objective",
  "make_optimizer",
  "make_sampling",
  "make_update",
  "state_shardings",
]
