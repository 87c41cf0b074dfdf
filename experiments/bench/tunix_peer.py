"""Tunix's sampler in a process of its own, asked over a pipe.

Tunix pins versions of jax and flax, so it may be in another environment. The
benchmark starts that environment's Python on this file, sends weights and
prompts, and then a line for each run. The answer comes when all tokens are on
the host. So both samplers take turns in one benchmark, although they are in
different processes.

At the top of this file only NumPy is imported, because the other environment
doesn't have jalign.
"""

import contextlib
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np


class Peer(NamedTuple):
  """The benchmark's handle of the other process.

  Attributes:
    run: samples a response to every prompt, and waits for it.
    greedy: number of tokens -> [B, new] greedy tokens.
    pid: id of the process.
    version: version of google-tunix.
  """

  run: Callable[[], None]
  greedy: Callable[[int], np.ndarray]
  pid: int
  version: str


def interpreter(given: str) -> str | None:
  """The Python to start: the given one, else this one if it has Tunix."""
  if given:
    return given
  return sys.executable if importlib.util.find_spec("tunix") else None


@contextlib.contextmanager
def start(
  python: str, config: Any, params: Any, prompts: Any, new: int
) -> Iterator[Peer]:
  """Starts the other process, which ends with the context.

  Args:
    python: interpreter of an environment with google-tunix.
    config: jalign's ModelConfig.
    params: parameters of that model.
    prompts: [B, T] tokens, none of them 0.
    new: tokens of each response.

  Raises:
    RuntimeError: the other process ended.
  """
  settings = dict(
    num_layers=config.num_hidden_layers,
    vocab_size=config.vocab_size,
    embed_dim=config.hidden_size,
    hidden_dim=config.intermediate_size,
    num_heads=config.num_attention_heads,
    head_dim=config.head_dim,
    num_kv_heads=config.num_key_value_heads,
    rope_theta=config.rope_theta,
    norm_eps=config.rms_norm_eps,
    use_tied_embedding=True,
  )
  arrays = {f"blocks/{k}": x for k, x in params["blocks"].items()}
  arrays |= {name: params[name] for name in ("embed", "norm")}
  with tempfile.TemporaryDirectory() as folder:
    weights = pathlib.Path(folder) / "weights.npz"
    np.savez(weights, **{k: np.asarray(x, "f") for k, x in arrays.items()})
    # -P, or else files beside this one would hide the environment's packages.
    command = [python, "-P", "-W", "ignore", __file__]
    with subprocess.Popen(
      command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

      def ask(**question):
        assert process.stdin and process.stdout
        process.stdin.write(json.dumps(question) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
          raise RuntimeError(f"{python} ended: see its message above")
        return json.loads(answer)

      version = ask(
        weights=str(weights),
        config=settings,
        dtype=config.dtype,
        prompts=np.asarray(prompts).tolist(),
        new=new,
      )
      try:
        yield Peer(
          lambda: ask(do="run"),
          lambda count: np.asarray(ask(do="greedy", new=count)),
          process.pid,
          version,
        )
      finally:
        with contextlib.suppress(BrokenPipeError):
          process.stdin.close()


class _Tokens:
  """A tokenizer for Tunix, whose text is the tokens' numbers."""

  def __init__(self, vocab: int):
    self._vocab = vocab

  def encode(self, text, **_):
    return [int(x) for x in text.split()]

  def decode(self, ids, **_):
    return " ".join(map(str, ids))

  def bos_id(self):
    return 0  # there is none

  def pad_id(self):
    return 0

  def eos_id(self):
    return self._vocab  # a token that is never drawn


def _made(asked):
  """A sampler of Tunix with the weights that were sent."""
  import jax
  import jax.numpy as jnp
  from flax import nnx
  from tunix.generate.sampler import CacheConfig, Sampler
  from tunix.models.qwen3 import model as qwen3

  dtype = jnp.dtype(asked["dtype"])
  config = qwen3.ModelConfig(**asked["config"], dtype=dtype, param_dtype=dtype)
  model = qwen3.Qwen3(config, rngs=nnx.Rngs(0))
  sent = np.load(asked["weights"])

  def put(variable, value):
    assert variable.value.shape == value.shape, (variable, value.shape)
    variable.value = jnp.asarray(value, dtype)

  put(model.embedder.input_embedding, sent["embed"])
  put(model.final_norm.w, sent["norm"])
  for i, layer in enumerate(model.layers):
    part = lambda name, i=i: sent[f"blocks/{name}"][i]
    put(layer.input_layernorm.w, part("attn_norm"))
    put(layer.post_attention_layernorm.w, part("mlp_norm"))
    for theirs, ours in (("q", "wq"), ("k", "wk"), ("v", "wv"), ("o", "wo")):
      put(getattr(layer.attn, f"{theirs}_proj").w, part(ours))
    for name in ("q_norm", "k_norm"):
      put(getattr(layer.attn, name).w, part(name))
    for name in ("gate", "up", "down"):
      put(getattr(layer.mlp, f"{name}_proj").kernel, part(name))
  width, new = len(asked["prompts"][0]), asked["new"]
  cache = CacheConfig(
    cache_size=width + new,
    num_layers=config.num_layers,
    num_kv_heads=config.num_kv_heads,
    head_dim=config.head_dim,
  )
  sampler = Sampler(model, _Tokens(config.vocab_size), cache)
  text = [" ".join(map(str, row)) for row in asked["prompts"]]

  def run(count, **settings):
    return sampler(
      text,
      max_generation_steps=count,
      max_prompt_length=width,
      eos_tokens=[config.vocab_size],
      **settings,
    )

  jax.block_until_ready(nnx.state(model))
  return run


def main() -> None:
  import importlib.metadata

  # Libraries' prints go to standard error: standard output is for answers.
  answers = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)

  def say(answer):
    answers.write(json.dumps(answer) + "\n")
    answers.flush()

  asked = json.loads(sys.stdin.readline())
  run = _made(asked)
  say(importlib.metadata.version("google-tunix"))
  for line in sys.stdin:
    question = json.loads(line)
    if question["do"] == "greedy":
      said = run(question["new"])
      say([np.asarray(row).tolist() for row in said.tokens])
    else:
      run(asked["new"], temperature=1.0, top_p=1.0)
      say(None)


if __name__ == "__main__":
  main()
