"""SFT policies that the trained reproductions start from.

Each policy is trained once, by `jalign.experiment.run.run_one`, into a run
folder, and later read from there; a run that was stopped is resumed.

  world  the demo's policy of the TL;DR world, 0.12 M parameters
  hh     chosen responses of Anthropic's harmless-base dialogues
         (Bai et al. 2022, arXiv:2204.05862), from a random model
"""

import argparse
import functools
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from jalign import data
from jalign.configs import demo, hh_dpo
from jalign.evaluation import likelihood
from jalign.experiment.commands.inspect import load_run
from jalign.experiment.commands.sweep import expand
from jalign.experiment.config.parse import parse
from jalign.experiment.data.dataset import Dataset
from jalign.experiment.data.prepare import prepare
from jalign.experiment.disk import folder as folders
from jalign.experiment.disk import lock
from jalign.experiment.run import run_one
from jalign.models import ModelConfig
from jalign.sharding import make_mesh
from jalign.types import Model, Params

_scorer = functools.cache(likelihood.make_scorer)  # compiles once per shape
ROOT = pathlib.Path(__file__).resolve().parents[2]
RUNS = ROOT / "runs" / "papers"
HH = ROOT.parent / "shared" / "data" / "hh_harmless_base_test.jsonl.gz"


class Trained(NamedTuple):
  """A policy and the pairs that it can be aligned on.

  Attributes:
    name: "world" or "hh".
    config: config of the model.
    model: functions of the model.
    params: parameters, on one device.
    tokenizer: the policy's tokenizer.
    pairs: encoded pairs: `.train`, `.held_out`, and loaders of batches.
  """

  name: str
  config: ModelConfig
  model: Model
  params: Params
  tokenizer: data.Tokenizer
  pairs: Dataset

  def score(self, params: Params, part: str) -> likelihood.PairScores:
    """Log-probs of the "train" or the "eval" pairs, in the data's order."""
    batches = self.pairs.loader("pairs", part, 64, epochs=1, shuffle=False)
    scores = _scorer(self.model)(params, batches, jax.device_put)
    batches.close()
    # Each batch has rows of one bucket; back to the order of the records.
    place = {source: i for i, source in enumerate(scores.sources)}
    rows = self.pairs.rows("pairs", part)
    order = np.array([place[row.source] for row in rows])
    *arrays, sources = scores
    return likelihood.PairScores(
      *(x[order] for x in arrays), tuple(sources[i] for i in order)
    )


def world_config() -> ConfigDict:
  """Config of the demo's warm-up and SFT, with 8,000 pairs to align on."""
  c = demo.get_config()
  c.title = "SFT in the TL;DR world, for reproductions of papers"
  c.stages = ("warmup", "sft")
  for other in ("dpo", "online_dpo", "online_ipo"):
    del c[other]
  c.algorithm = c.start = c.report = ""
  c.data.path = "preferences[:8000]"
  c.sft.data.path = "sft[:16000]"
  c.sft.steps = c.sft.save_every = 2000
  c.eval_every = 0
  for name in ("function", "measures", "opponents"):
    c.annotator[name] = ""
  c.sample.prompts = c.sample.eval_prompts = 16
  c.sample.best_of = 0
  return c


def hh_config(path: str) -> ConfigDict:
  """Config of SFT on chosen responses, smaller and shorter than `hh_dpo`'s."""
  c = hh_dpo.get_config()
  c.title = "SFT on hh-rlhf harmless-base, for reproductions of papers"
  c.stages = ("sft",)
  c.data.path = path
  c.data.max_prompt_tokens = 64
  c.data.buckets = (64, 96, 160)
  c.model.hidden_size = 128
  c.model.intermediate_size = 384
  c.model.num_hidden_layers = 3
  c.model.num_attention_heads = 4
  c.model.num_key_value_heads = 2
  c.sft.epochs = 2
  c.sft.eval_every = c.sft.save_every = 0
  c.sft.select = ""
  c.sft.optimizer.learning_rate = 3e-3
  c.sample.prompts = 4
  c.sample.max_new_tokens = 32
  return c


def trained(name: str, c: ConfigDict, folder: pathlib.Path) -> Trained:
  """The policy of a config: trained into a folder, or read from there.

  Raises:
    UserError: the folder holds the run of another config.
  """
  ((_, values),) = expand(c.to_dict())
  folders.check(folder, values)
  if not (folder / "report.md").exists():
    with lock.hold(folder):
      run_one(parse(values), values, folder)
  mesh = make_mesh()
  loaded = load_run(folder, mesh)
  # One stage, on the run's own data, so that nothing else is encoded again.
  alone = {k: v for k, v in values.items() if k not in c.stages}
  main = prepare(parse(alone | {"stages": ("pairs",)}), folder, None).main
  params = jax.device_put(jax.device_get(loaded.params))
  return Trained(
    name, loaded.config, loaded.model, params, loaded.tokenizer, main
  )


def world() -> Trained:
  """The TL;DR world's policy."""
  return trained("world", world_config(), RUNS / "world")


def hh(path: pathlib.Path) -> Trained | None:
  """The dialogues' policy; None, after a printed line, if there is no file."""
  if not path.exists():
    print(f"{path} isn't there: the part on hh-rlhf is left out")
    return None
  return trained("hh", hh_config(str(path)), RUNS / "hh")


def flags(
  description: str | None, argv: Sequence[str] | None = None
) -> argparse.Namespace:
  """Parses --out and --hh for a trained reproduction."""
  first = (description or "").split("\n")[0]
  parser = argparse.ArgumentParser(description=first)
  parser.add_argument(
    "--out", required=True, type=pathlib.Path, help="folder of NAME.md, .png"
  )
  parser.add_argument(
    "--hh",
    type=pathlib.Path,
    default=HH,
    help="hh_harmless_base_test.jsonl.gz; its part is skipped without it",
  )
  return parser.parse_args(argv)
