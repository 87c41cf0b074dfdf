"""The benchmarks' results: a table of goals and measurements, and a plot.

Of points that were measured more than once the last line counts. A row of the
table covers several points: its figure is the worst of them, and the range
is that of all. Points during which others used more than 5 % of the cores are
counted at the end of their row.

  python -m experiments.bench.report [FILE.jsonl ...] [--plot=FILE.png]
"""

import json
import pathlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from absl import app, flags

_PLOT = flags.DEFINE_string("plot", "", "roofline of the decoding points")
FOLDER = pathlib.Path(__file__).parent / "results"
BUSY = 0.05
Record = dict[str, Any]
_POINT = (
  "benchmark",
  "part",
  "processor",
  "device",
  "size",
  "dtype",
  "batch",
  "slots",
  "admit",
  "samples",
  "prompt",
  "new_tokens",
  "vocab",
  "pairs",
  "data",
  "cache_dtype",
  "layout",
  "write",
)


class Row(NamedTuple):
  """A row of the table.

  Attributes:
    title: what is measured.
    value: gives a record's figure, or None if the row isn't about the record.
    must: the required minimum (or maximum); None if it is only recorded.
    aim: the value that we hope for; None for none.
    less: whether less is better.
  """

  title: str
  value: Callable[[Record], float | None]
  must: float | None
  aim: float | None
  less: bool = False


def of(field: str, **wanted: Any) -> Callable[[Record], float | None]:
  """A function that reads a field of those records that have wanted values."""
  wanted.setdefault("part", None)

  def value(record: Record) -> float | None:
    for name, want in wanted.items():
      accepted = want if isinstance(want, tuple) else (want,)
      if record.get(name) not in accepted:
        return None
    return record.get(field)

  return value


def prefix_speedup(record: Record) -> float | None:
  """Speedup of rows with a shared prefix over separate rows."""
  if record.get("benchmark") != "prefix":
    return None
  return record["ways"]["shared"]["speedup"]


def _decode(field: str, dtype: str, **wanted: Any):
  wanted = {"size": ("s", "m")} | wanted
  return of(field, benchmark="decode", dtype=dtype, **wanted)


_BOTH = "float32", "bfloat16"
ROWS = (
  Row("decode fp32 / HF generate", _decode("ratio", "float32"), 1.7, 3),
  Row("decode bf16 / HF generate", _decode("ratio", "bfloat16"), 1.3, 2.5),
  Row(
    "decode / Tunix's sampler, s",
    _decode("ratio_tunix", _BOTH, size="s"),
    1.25,
    2.5,
  ),
  Row(
    "fp32 B = 1, share of the bandwidth floor",
    _decode("floor_share", "float32", batch=1),
    0.6,
    0.85,
  ),
  Row(
    "bf16 B = 1, share of the bandwidth floor",
    _decode("floor_share", "bfloat16", batch=1),
    None,
    0.7,
  ),
  Row(
    "sampling, V = 152k, B = 32, share of a step",
    of("share", benchmark="decode", part="sampling", size="m152k"),
    0.05,
    0.02,
    less=True,
  ),
  Row("mixture / hand-written HF loop", of("ratio", benchmark="mixture"), 2, 4),
  Row(
    "mixture step / sum of its models' steps",
    of("step_ratio", benchmark="mixture"),
    1.15,
    1,
    less=True,
  ),
  Row(
    "DPO step / TRL, V = 32k",
    of("ratio", benchmark="train_step", size="s"),
    2.5,
    4,
  ),
  Row(
    "DPO step / TRL, V = 152k",
    of("ratio", benchmark="train_step", size="s152k"),
    3.5,
    7,
  ),
  Row(
    "peak memory / TRL's",
    of("memory_ratio", benchmark="train_step"),
    0.5,
    0.25,
    less=True,
  ),
  Row(
    "DPO step that watches entanglement / plain",
    of("ratio", benchmark="diagnostics", part="step"),
    None,
    1.05,
    less=True,
  ),
  Row(
    "exact gradient products / a backward pass",
    of("ratio", benchmark="diagnostics", part="probe"),
    None,
    3,
    less=True,
  ),
  Row(
    "full / streamed logits, V = 152k: temporaries",
    of("temporaries_ratio", benchmark="logprobs", vocab=151_936),
    5,
    10,
  ),
  Row(
    "streamed / full logits, V = 152k: time",
    of("time_ratio", benchmark="logprobs", vocab=151_936),
    1,
    0.7,
    less=True,
  ),
  Row(
    "streamed, 56 % of tokens / full logits, V = 152k: time",
    of("counted_ratio", benchmark="logprobs", vocab=151_936),
    1,
    0.7,
    less=True,
  ),
  Row(
    "refilled rows / waiting ones, 8 slots",
    of("ratio", benchmark="refill", slots=8),
    1.5,
    2.2,
  ),
  Row(
    "refilled rows / waiting ones, 32 slots",
    of("ratio", benchmark="refill", slots=32),
    2,
    2.9,
  ),
  Row(
    "compile time of decoding, s",
    _decode("compile", _BOTH),
    None,
    3,
    less=True,
  ),
  Row(
    "8 samples that share a prefill of 512",
    of("ratio", benchmark="prefill", samples=8),
    None,
    2,
  ),
  Row("prefixes shared by pairs", prefix_speedup, None, 1.3),
  Row(
    "loading 1 GB / transformers: time",
    of("time_ratio", benchmark="load", part="load"),
    None,
    1,
    less=True,
  ),
  Row(
    "loading 1 GB / transformers: memory",
    of("memory_ratio", benchmark="load", part="load"),
    None,
    0.6,
    less=True,
  ),
  Row(
    "step of LoRA / of all parameters: time",
    of("time_ratio", benchmark="load", part="lora"),
    None,
    None,
    less=True,
  ),
  Row(
    "step of LoRA / of all parameters: memory",
    of("memory_ratio", benchmark="load", part="lora"),
    None,
    None,
    less=True,
  ),
)


def read(paths: Iterable[pathlib.Path]) -> list[Record]:
  """The last record of each point, in the order in which points first occur."""
  records: dict[tuple, Record] = {}
  for path in paths:
    for line in path.read_text().splitlines():
      record = json.loads(line)
      records[tuple(record.get(name) for name in _POINT)] = record
  return list(records.values())


def verdict(row: Row, worst: float) -> str:
  """ "met", "not met" or "recorded", and whether the aim is reached."""
  reached = lambda goal: worst <= goal if row.less else worst >= goal
  if row.must is not None and not reached(row.must):
    return "**not met**"
  state = "recorded" if row.must is None else "met"
  at_aim = row.aim is not None and reached(row.aim)
  return f"{state}, aim reached" if at_aim else state


def table(records: list[Record]) -> str:
  """The table of goals, measurements and verdicts, in Markdown."""
  lines = [
    "| what | must | aim | measured (worst; range) | |",
    "| --- | --- | --- | --- | --- |",
  ]
  for row in ROWS:
    points = [(row.value(r), r) for r in records]
    values = [v for v, _ in points if v is not None]
    sign = "≤" if row.less else "≥"
    goals = [
      "record" if goal is None else f"{sign} {goal:g}"
      for goal in (row.must, row.aim)
    ]
    if values:
      worst = max(values) if row.less else min(values)
      shown = f"{worst:.3g}"
      if len(values) > 1:
        shown += f" ({min(values):.3g}–{max(values):.3g}, {len(values)} points)"
      state = verdict(row, worst)
      busy = sum(
        v is not None and (r.get("others") or 0) > BUSY for v, r in points
      )
      state += f"; {busy} of {len(values)} on busy cores" if busy else ""
    else:
      shown, state = "–", "not measured"
    lines.append(f"| {row.title} | {' | '.join(goals)} | {shown} | {state} |")
  return "\n".join(lines)


def details(records: list[Record]) -> str:
  """A table of all decoding and mixture points, in Markdown."""
  lines = [
    "| point | ms/step | tokens/s | floor share | / HF (mode) | / Tunix "
    "| compile s | others |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
  ]
  blank = lambda x: "–" if x is None else x
  for r in records:
    if r["benchmark"] not in ("decode", "mixture") or r.get("part"):
      continue
    middle, least, most = (
      1e3 * x / r["new_tokens"] for x in r["seconds"]["jalign"]
    )
    peer = blank(r.get("ratio"))
    peer = f"{peer} ({r['peer_mode']})" if "peer_mode" in r else peer
    cells = (
      f"{r['benchmark']} {r['size']} {r['dtype']} B = {r['batch']}",
      f"{middle:.3g} ({least:.3g}–{most:.3g})",
      f"{1e3 * r['batch'] / middle:.4g}",
      blank(r.get("floor_share")),
      peer,
      blank(r.get("ratio_tunix")),
      blank(r.get("compile")),
      blank(r.get("others")),
    )
    lines.append("| " + " | ".join(map(str, cells)) + " |")
  return "\n".join(lines)


def main(argv: list[str]) -> None:
  paths = [pathlib.Path(name) for name in argv[1:]]
  paths = paths or sorted(FOLDER.glob("*.jsonl"))
  if not paths:
    raise app.UsageError(f"no results in {FOLDER}; run `make bench`")
  records = read(paths)
  print(table(records), details(records), sep="\n\n")
  if _PLOT.value:
    from experiments.bench import roofline

    roofline.draw(records, _PLOT.value)


if __name__ == "__main__":
  app.run(main)
