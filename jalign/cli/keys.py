"""`jalign keys`."""

import textwrap

from jalign.cli.parsing import Values, command
from jalign.errors import UserError, meant


@command(words="[WORD]")
def keys(values: Values) -> None:
  """Lists the keys of a config: types, defaults and meanings.

  With WORD, only the keys whose names hold it; where no name does, those whose
  meanings do. A key becomes a flag of `jalign train` by --config. before it.

  examples:
    jalign keys
    jalign keys optimizer
    jalign keys checkpoint
  """
  if len(values.words) > 1:
    raise UserError("keys takes one WORD.")

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
