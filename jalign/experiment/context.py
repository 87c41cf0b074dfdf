"""What a stage is assembled from, and what all stages of a run share."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jalign import data
from jalign.experiment.config.settings import SamplerSettings, StageSettings
from jalign.experiment.config.streams import stream
from jalign.experiment.data.dataset import Dataset
from jalign.experiment.data.prepare import Prepared
from jalign.experiment.plugins import Measures, Opponents
from jalign.experiment.share import Sharing
from jalign.feedback import Judge
from jalign.models import ModelConfig


class Materials(NamedTuple):
  """What a stage is assembled from, beside its settings and its start.

  Attributes:
    model_config: config of policy and reference.
    mesh: the mesh that everything lies on.
    dataset: the data that the stage is trained on.
    tokenizer: the tokenizer of the data.
    annotator: judges what an algorithm samples; None if there is no judge.
    seed_of: `purpose -> seed` of a random stream of the stage; purposes are
      "trainable", "data" and "online".
    decode_tensor: devices along `tensor` while decoding; 0 for the mesh's.
  """

  model_config: ModelConfig
  mesh: Any
  dataset: Dataset
  tokenizer: data.Tokenizer
  annotator: Judge | None
  seed_of: Callable[[str], int]
  decode_tensor: int = 0


class Run(NamedTuple):
  """What all stages of a run share.

  Attributes:
    folder: the run's folder.
    prepared: data and tokenizer.
    model_config: config of policy and reference.
    mesh: the mesh that everything lies on.
    seed: the run's seed.
    annotator: the judge; None if the config names none.
    gold: the judge that only measures; None if the config names none.
    measures: further measurements of samples.
    opponents: fixed contestants of the win matrix.
    sample: how responses are drawn for evaluation, and their length.
    should_stop: called after each step; True stops the run.
    extra_writers: metric writers beside the run's own.
    needs: stage -> what its parameters come from: see `identity.needed_by`.
    anyway: whether to continue if something harmless has changed.
    sharing: sharing of stages with other runs of a sweep.
    decode_tensor: devices along `tensor` while decoding; 0 for the mesh's.
  """

  folder: pathlib.Path
  prepared: Prepared
  model_config: ModelConfig
  mesh: Any
  seed: int
  annotator: Judge | None
  gold: Judge | None
  measures: Measures
  opponents: Opponents
  sample: SamplerSettings
  should_stop: Callable[[], bool]
  extra_writers: Callable[[str], list[Any]]
  needs: Mapping[str, Mapping[str, str]]
  anyway: bool
  sharing: Sharing
  decode_tensor: int = 0

  def materials(self, stage: StageSettings) -> Materials:
    """What a stage is assembled from."""
    return Materials(
      self.model_config,
      self.mesh,
      self.prepared.stages[stage.name],
      self.prepared.tokenizer,
      self.annotator,
      lambda purpose: stream(self.seed, purpose, stage.name),
      self.decode_tensor,
    )
