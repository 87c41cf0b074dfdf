"""`jalign keys`."""

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
      remedy=f"{meant(word, names)}{SEE}",
    )
  of_run = True
  for key in found:
    if of_run and not key.of_run and not word:
      print("Of each stage: --config.KEY for the last, --config.STAGE.KEY for")
      print("an earlier one.\n")
    of_run = key.of_run
    print(f"{key.name} = {key.default!r}  ({type_name(key.hint)})")
    print(textwrap.indent(textwrap.fill(key.about, 75), "    "))
