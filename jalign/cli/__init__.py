"""The command line: `jalign COMMAND`; see USAGE.

Bad input prints one paragraph and exits with code 2; a run that was asked to
stop (SIGTERM, or Ctrl-C once) saves first and exits with code 0.
"""

import os
import signal
import sys
from collections.abc import Sequence

from jalign.cli import others
from jalign.cli.sample import sample
from jalign.cli.terminal import careful
from jalign.cli.train import train
from jalign.errors import UserError, nearest

USAGE = """\
usage: jalign COMMAND [flags]

  train     --config=FILE[:ARG] --workdir=DIR [--config.KEY=VALUE ...]
            Trains every stage of a config, evaluates, writes DIR/report.md
            and DIR/report.html. Run it again to resume.
  sample    --model=DIR [--prompt=TEXT ... | --data=FILE [--source=NAME]]
            [--out=FILE.jsonl] [--count=1] [--seed=0] [--slots=32]
            [--template=none|plain|DIR_OR_FILE] [--max_new_tokens=64]
            [--temperature=1] [--top_k=0] [--top_p=1] [--min_p=0]
            [--repetition_penalty=1]
            Samples responses of a run's policy or a checkpoint, written by its
            own chat template, drawn as its generation_config.json says unless
            flags say otherwise. Prompts come from standard input, a line each,
            where none is given; \\n is a line break. With --out, a row for
            each response, with its log-probs; run it again to go on.
  evaluate  --run=DIR [--against=DIR] [--data=FILE]
            Held-out preference accuracy of a run's policy, and its win rate
            over another run's where the config names an annotator.
  score     --model=DIR --data=FILE --out=FILE.parquet [--reference=DIR]
            [--beta=0.1] [--source=NAME] [--batch_size=8] [--skip_bad_rows]
            [--template=none|plain|DIR_OR_FILE]
            Log-probs and entropies of a file's responses, token by token,
            under a run's policy or a checkpoint; with a reference, implicit
            rewards too. A reward model's scores where --model is one.
  report    RUN [RUN ...] [--stage=NAME] [--out=DIR] [--format=pdf|svg]
            One page on what training did to log-probs, gradients, entropy and
            samples, runs overlaid: RUN/dynamics/report.html, or DIR's; the
            plot as a vector file, too, in plots/.
  convert   --run=DIR --to=DIR [--adapter]
            Writes a run's policy as a checkpoint that transformers opens, or
            the low-rank change that it trained as one that PEFT opens. The
            other way, config.init_from takes a checkpoint.
  merge     --model=DIR --adapter=DIR --to=DIR
            Adds an adapter of PEFT's to its checkpoint.
  data      check PATH [--source=NAME] [--against=PATH] [--tokenizer=DIR]
            [--template=DIR_OR_FILE] [--data_dir=DIR]
            [--columns=FIELD=COLUMN,...]
            What is in a file of data and what may be wrong with it: rows that
            can't be read, lengths, repeated rows, labels, and prompts that
            are in the other file, too. PATH is JSON lines, parquet, a saved
            Hugging Face dataset or tfds:NAME[/CONFIG][:SPLIT].
"""


def main(argv: Sequence[str] | None = None) -> None:
  """Entry point of the `jalign` command; exits."""
  # Advice on installing PyTorch is no news to anybody here.
  os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
  try:
    with careful():
      _run(list(sys.argv[1:] if argv is None else argv))
  except UserError as e:
    _fail(e)
  except OSError as e:
    if not isinstance(e.filename, str):
      raise
    _fail(UserError(f"{e.strerror}.", where=e.filename))
  except KeyboardInterrupt:
    print("jalign: interrupted", file=sys.stderr)
    sys.exit(128 + signal.SIGINT)


def _run(arguments: list[str]) -> None:
  commands = {
    "train": train,
    "sample": sample,
    "evaluate": others.evaluate,
    "score": others.score,
    "report": others.report,
    "convert": others.convert,
    "merge": others.merge,
    "data": others.data,
  }
  helps = ("-h", "--help", "help")
  if not arguments or arguments[0] in helps or set(helps[:2]) & {*arguments}:
    print(USAGE)
    sys.exit(0 if arguments else 2)
  command = commands.get(arguments[0])
  if command is None:
    raise UserError(
      f"unknown command {arguments[0]!r}.",
      remedy=f"{nearest(arguments[0], commands)} See jalign --help.",
    )
  command(arguments[1:])


def _fail(error: UserError) -> None:
  with careful():
    print(error.paragraph("jalign"), file=sys.stderr)
  sys.exit(2)
