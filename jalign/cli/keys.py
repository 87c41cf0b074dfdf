"""`jalign keys` and `jalign metrics`: tables of names with their meanings."""

import textwrap

from jalign.cli.parsing import Values, command
from jalign.errors import UserError, meant


@command(words="[WORD]")
def keys(values: Values) -> None:
  """Lists the keys of a config with their types, defaults and meanings.

  With WORD, only keys whose names contain the word are listed; where no name
  does, keys whose meanings contain the word. A key with --config. before it is
  a flag of `jalign train`.

  examples:
    jalign keys
    jalign keys optimizer
    jalign keys checkpoint
  """
  if len(values.words) > 1:
    raise UserError("keys takes one WORD at most.")

  from jalign.experiment.config.keys import matching, table, type_name
  from jalign.experiment.config.parse import SEE

  word = "".join(values.words)
  found = matching(word)
  if not found:
    names = [key.name for key in table()]
    names += [name.rpartition(".")[2] for name in names]
    raise UserError(
      f"no key has {word!r} in its name or its meaning.",
      remedy=f"{meant(word, names)}{SEE} The name of a stage goes before any"
      " key of a stage: --config.sft.batch_size=16.",
    )
  print(
    "Defaults are those of the config base; a config may set other values.\n"
  )
  of_run = True
  for key in found:
    if of_run and not key.of_run and not word:
      print("Of each stage: --config.KEY for the last, --config.STAGE.KEY for")
      print("an earlier one.\n")
    of_run = key.of_run
    _show(f"{key.name} = {key.default!r}  ({type_name(key.hint)})", key.about)


@command(words="[WORD]")
def metrics(values: Values) -> None:
  """Lists the metrics that runs log with their units and meanings.

  With WORD, only metrics whose names contain the word are listed; where no name
  does, metrics whose meanings contain the word.

  examples:
    jalign metrics
    jalign metrics displaced
    jalign metrics samples/win_rate
  """
  if len(values.words) > 1:
    raise UserError("metrics takes one WORD at most.")

  from jalign import glossary

  word = "".join(values.words)
  found = glossary.matching(word)
  if not found:
    raise UserError(
      f"no metric has {word!r} in its name or its meaning.",
      remedy=f"{meant(word, [row.name for row in glossary.GLOSSARY])}`jalign"
      " metrics` lists every metric.",
    )
  if not word:
    print("The word before the slash says what is measured:\n")
    for section, says in glossary.SECTIONS.items():
      _show(section, says)
    print()
  for row in found:
    names = ", ".join(f"{section}/{row.name}" for section in row.sections)
    unit = row.unit.replace("_", " ")
    _show(f"{names}  ({unit})", f"{row.says} (jalign.{row.source})")


def _show(name: str, about: str) -> None:
  """Prints a name, and below it what the name means."""
  print(name)
  print(textwrap.indent(textwrap.fill(about, 75), "    "))
