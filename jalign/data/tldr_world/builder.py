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
from jalign.data.tldr_world.opinions import group_of_rater


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
  "raters": "pairs of archetypes by many raters, with the group of each",
  "costs": "pairs in the order of harm, with labels of safety",
  "ratings": "demonstrations with ratings on several objectives",
  "votes": "pairs of archetypes with the verdicts of principles",
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
    pair = {"chosen": text, "rejected": text}
    # A record has some of the names, and all rows must have the same fields.
    named = tfds.features.Sequence({"name": text, "value": number})
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
      "raters": pair | {"rater": text, "rater_group": text},
      "costs": pair
      | {
        "preference": number,
        "chosen_unsafe": tfds.features.Scalar(np.bool_),
        "rejected_unsafe": tfds.features.Scalar(np.bool_),
      },
      "ratings": {"response": text, "ratings": named},
      "votes": pair | {"preference": number, "preferences": named},
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
      if "desirable" in example:  # fields are named as `jalign.data` reads them
        example["label"] = example.pop("desirable")
      if example.get("rater"):
        example["rater_group"] = group_of_rater(
          example["rater"], self.builder_config.seed
        )
      for field in ("ratings", "preferences"):
        example[field] = [
          {"name": name, "value": value}
          for name, value in example.get(field, {}).items()
        ]
      number = int(example["source"].rpartition(":")[2])
      yield number, {name: example[name] for name in self.info.features}

  _generate_examples = _generate
