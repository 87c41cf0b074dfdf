"""The TL;DR world as a TFDS data set: ArrayRecord files, no TensorFlow.

  TldrWorld(config="sft", data_dir=folder, file_format="array_record")
  builder.download_and_prepare()
  builder.as_data_source(split="train")

Nothing is downloaded: examples are generated. The splits are those of
`jalign.data.split` with its fraction of 1/10 and seed 0.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jalign.data.groups import split
from jalign.data.tldr_world import dataset


@dataclasses.dataclass(kw_only=True)
class TldrConfig(tfds.core.BuilderConfig):
  """A configuration of the TL;DR world.

  Attributes:
    records: kind of records, where the configuration's name isn't one.
    posts: number of records, in both splits together.
    seed: seed of the world.
  """

  records: str = ""
  posts: int = dataset.POSTS
  seed: int = 0


_DESCRIBED = {
  "sft": "one imperfect demonstration per post",
  "preferences": "pairs, ordered by the intransitive population",
  "ranked": "four demonstrations with gold rewards, best first",
  "binary": "demonstrations, desirable where the gold cost is negative",
  "prompts": "posts without a summary",
}


class TldrWorld(tfds.core.GeneratorBasedBuilder):
  """Procedural posts with salient facts, and summaries of them."""

  VERSION = tfds.core.Version("1.0.0")
  BUILDER_CONFIGS = [
    TldrConfig(name=name, description=text) for name, text in _DESCRIBED.items()
  ]

  @property
  def _records(self) -> str:
    return self.builder_config.records or self.builder_config.name

  def _info(self) -> tfds.core.DatasetInfo:
    text = tfds.features.Text()
    number = tfds.features.Scalar(np.float32)
    features: dict[str, Any] = {
      "sft": {"response": text},
      "preferences": {
        "chosen": text,
        "rejected": text,
        "preference": number,
        "chosen_score": number,
        "rejected_score": number,
      },
      "ranked": {
        "responses": tfds.features.Sequence(text),
        "scores": tfds.features.Sequence(number),
      },
      "binary": {
        "response": text,
        "label": tfds.features.Scalar(np.bool_),
      },
      "prompts": {},
    }[self._records]
    return self.dataset_info_from_configs(
      features=tfds.features.FeaturesDict({"prompt": text, **features})
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    config = self.builder_config
    rows = dataset.records(self._records, config.posts, config.seed)
    train, test = split(rows, 0.1, 0)
    return {"train": self._generate(train), "test": self._generate(test)}

  def _generate(self, rows) -> Iterator[tuple[int, dict[str, Any]]]:
    for row in rows:
      example = dataclasses.asdict(row)
      for key in ("group", "plain", "end"):
        del example[key]
      if "desirable" in example:  # fields are named as `jalign.data` reads them
        example["label"] = example.pop("desirable")
      yield int(example.pop("source").rpartition(":")[2]), example

  _generate_examples = _generate
