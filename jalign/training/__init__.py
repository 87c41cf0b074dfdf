"""Training: objectives, an update, a loop, checkpoints, metrics."""

from jalign.training.checkpoint import Checkpoints
from jalign.training.metrics import combine
from jalign.training.objective import make_evaluation, make_objective
from jalign.training.optimizer import OptimizerConfig, make_optimizer
from jalign.training.state import TrainState, init_state, state_shardings
from jalign.training.step import make_update
from jalign.training.streamed_distillation import align_distil_streamed

__all__ = [
  "Checkpoints",
  "OptimizerConfig",
  "TrainState",
  "align_distil_streamed",
  "combine",
  "init_state",
  "make_evaluation",
  "make_objective",
  "make_optimizer",
  "make_update",
  "state_shardings",
]
