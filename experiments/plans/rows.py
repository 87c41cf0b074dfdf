"""The plans of the page Scale: the config, devices and flags of each."""

from typing import NamedTuple

CONFIGS = "experiments/configs/plans"


class Row(NamedTuple):
  """A plan.

  Attributes:
    about: the program, for readers.
    config: file in CONFIGS, without its ending.
    topology: `--topology` of the plan.
    mesh: `--mesh` of the plan, data x fsdp x tensor.
    programs: programs that the table shows; the plan compiles no others.
    flags: other flags.
    fits: whether the programs are expected to fit.
  """

  about: str
  config: str
  topology: str
  mesh: str
  programs: tuple[str, ...] = ("update",)
  flags: tuple[str, ...] = ()
  fits: bool = True

  @property
  def command(self) -> tuple[str, ...]:
    """The words of the command, without `--out`."""
    return (
      "jalign",
      "plan",
      f"--config={CONFIGS}/{self.config}.py",
      f"--topology={self.topology}",
      f"--mesh={self.mesh}",
      f"--programs={','.join(self.programs)}",
      *self.flags,
    )


_ROLLOUT = ("rollout",)
_STEP = ("rollout", "update")

PROGRAMS = {
  "dpo_8b_v5e": Row("DPO 8B, 64 pairs", "dpo_8b", "v5e:8x8", "1x64x1"),
  "dpo_8b_v5p": Row("DPO 8B, 64 pairs", "dpo_8b", "v5p:2x2x2", "1x8x1"),
  "dpo_8b_v5p_halves": Row(
    "DPO 8B, 64 pairs in 2 microbatches",
    "dpo_8b",
    "v5p:2x2x2",
    "1x8x1",
    flags=("--config.microbatches=2",),
  ),
  "dpo_1_7b_v5e": Row("DPO 1.7B, 32 pairs", "dpo_1_7b", "v5e:4x4", "1x16x1"),
  "dpo_8b_h200": Row(
    "DPO 8B, 16 pairs",
    "dpo_8b",
    "h200:8",
    "1x8x1",
    flags=("--config.batch_size=16",),
  ),
  "dpo_32b_v5p": Row("DPO 32B, 64 pairs", "dpo_32b", "v5p:4x4x4", "1x16x4"),
  "generate_8b_v5e": Row(
    "64 responses of 8B, 512 + 512 tokens",
    "generate_8b",
    "v5e:4x4",
    "1x4x4",
    _ROLLOUT,
  ),
  "mixture_8b_v5e": Row(
    # With moments in float32, a run would have 0.1 GB too little.
    "64 responses of a mixture, 8B + 8B, 256 + 256 tokens",
    "mixture_8b",
    "v5e:4x4",
    "1x4x4",
    _ROLLOUT,
    ("--config.optimizer.moments=bfloat16",),
  ),
  "ipo_md_8b_v5e": Row(
    "IPO-MD 8B, 1,024 responses, 512 + 1,024 tokens",
    "ipo_md_8b",
    "v5e:16x16",
    "1x256x1",
    _STEP,
  ),
  "ipo_md_8b_v6e": Row(
    "IPO-MD 8B, 1,024 responses, 512 + 1,024 tokens",
    "ipo_md_8b",
    "v6e:8x8",
    "1x64x1",
    _STEP,
  ),
  "dpo_8b_too_large": Row(
    "DPO 8B, 64 pairs", "dpo_8b", "v5e:2x2", "1x4x1", fits=False
  ),
  "dpo_8b_mended": Row(
    "DPO 8B, 128 pairs",
    "dpo_8b",
    "v5e:4x4",
    "1x16x1",
    flags=("--config.batch_size=128",),
    fits=False,
  ),
}

# Each differs from the first, a row of above, in one number, which is doubled.
GROWTH = {
  "dpo_1_7b_v5e": Row("as it is", "dpo_1_7b", "v5e:4x4", "1x16x1"),
  "growth_chips": Row("chips x 2", "dpo_1_7b", "v5e:4x8", "1x32x1"),
  "growth_sequence": Row(
    "tokens of a sequence x 2",
    "dpo_1_7b",
    "v5e:4x4",
    "1x16x1",
    flags=(
      "--config.data.buckets=4096",
      "--config.data.max_prompt_tokens=2048",
    ),
  ),
  "growth_vocabulary": Row(
    "vocabulary x 2",
    "dpo_1_7b",
    "v5e:4x4",
    "1x16x1",
    flags=("--config.tokenizer.vocab_size=303872",),
  ),
}


def _lever(*flags: str, fits: bool = True) -> Row:
  about = ", ".join(flags).replace("--config.", "") or "as it is"
  flags = ("--config.batch_size=16", *flags)
  return Row(about, "dpo_8b", "h200:8", "1x8x1", flags=flags, fits=fits)


def _offload(*flags: str) -> Row:
  about = ", ".join(flags).replace("--config.", "") or "as it is"
  return Row(about, "dpo_1_7b", "v5e:4x4", "1x16x1", flags=flags)


def _cache(*flags: str) -> Row:
  about = ", ".join(flags).replace("--config.", "") or "as it is"
  mesh = "1x4x4"
  return Row(about, "generate_8b", "v5e:4x4", mesh, _ROLLOUT, flags)


# Each sets one key more than the first, a row of above.
LEVERS = {
  "dpo_8b_h200": _lever(),
  "lever_remat_none": _lever("--config.model.remat=none", fits=False),
  "lever_remat_dots": _lever("--config.model.remat=dots"),
  "lever_microbatches": _lever("--config.microbatches=2"),
  "lever_moments": _lever("--config.optimizer.moments=bfloat16"),
  "lever_precompute": _lever("--config.reference=precompute"),
  "lever_lora": _lever("--config.lora.rank=16"),
}
# The compiler of GPUs that aren't there knows no memory of their host.
OFFLOAD = {
  "dpo_1_7b_v5e": _offload(),
  "offload_optimizer": _offload("--config.offload=optimizer"),
  "offload_start": _offload("--config.offload=start"),
}
CACHE = {
  "generate_8b_v5e": _cache(),
  "cache_int8": _cache("--config.model.cache_dtype=int8"),
}

ROWS = GROWTH | LEVERS | OFFLOAD | CACHE | PROGRAMS
