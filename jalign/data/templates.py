"""Loads chat templates from tokenizers' folders, files and strings."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from jalign.data.chat import ChatTemplate
from jalign.data.lines import file_size
from jalign.errors import UserError

_MOST = 1 << 20  # bytes of a template; published templates have some 10,000
_SPECIAL = re.compile(r"\b(?:bos|eos|pad|unk|sep|cls|mask)_token\b")


def load_template(
  source: str | os.PathLike[str] | ChatTemplate,
  *,
  tokens_of: str | os.PathLike[str] | None = None,
  **variables: Any,
) -> ChatTemplate:
  """A chat template from a tokenizer's folder, a file or a string.

  Args:
    source: a folder that `transformers.AutoTokenizer` reads and that has a
      chat template; a file of Jinja; or the Jinja itself. A `ChatTemplate`
      comes back with the variables added.
    tokens_of: a tokenizer's folder, whose special tokens a file or a string
      may read. It then writes what it would write as that folder's template.
    **variables: what the template reads beside the messages. A folder gives
      its special tokens; a file and a string give none.

  Raises:
    UserError: there is nothing at `source`, the folder has no template, the
      Jinja is broken, or the template writes a special token that isn't known.
  """
  if isinstance(source, ChatTemplate):
    template = dataclasses.replace(source, variables={**source.variables})
  else:
    template = _find(os.fspath(source))
  read = set(_SPECIAL.findall(template.text)) - {
    *template.variables,
    *variables,
  }
  # Folders leave out tokens that they don't have; their templates allow for it.
  known = os.path.isdir(template.name)
  if read and tokens_of is not None and not known:
    variables = _special_tokens(_tokenizer(pathlib.Path(tokens_of))) | variables
    known = True
  template = dataclasses.replace(
    template, variables={**template.variables, **variables}
  )
  _check(template, () if known else sorted(read))
  return template


def _find(source: str) -> ChatTemplate:
  if "{%" in source or "{{" in source:
    return ChatTemplate(source, {})
  path = pathlib.Path(source)
  if path.is_dir():
    return _from_folder(path)
  if path.exists() and file_size(source) > _MOST:
    raise UserError(
      f"the chat template has more than {_MOST:,} bytes.",
      where=source,
      remedy="Give the file of Jinja itself.",
    )
  try:
    return ChatTemplate(path.read_text(encoding="utf-8"), {}, source)
  except (OSError, ValueError) as error:
    raise UserError(
      f"no chat template can be read ({type(error).__name__}).",
      where=source,
      remedy="Give a tokenizer's folder, a file of Jinja, or Jinja itself.",
    ) from None


def _tokenizer(folder: pathlib.Path) -> Any:
  import transformers  # slow to import

  try:
    return transformers.AutoTokenizer.from_pretrained(
      str(folder), local_files_only=True, trust_remote_code=False
    )
  except Exception as error:  # whatever a foreign folder makes it raise
    raise UserError(
      f"no tokenizer can be loaded ({type(error).__name__}: {error}).",
      where=str(folder),
      remedy="Mend the file that the error names (config.json is read, too); or"
      " give another tokenizer's folder, or a file of Jinja.",
    ) from None


def _special_tokens(tokenizer: Any) -> dict[str, str]:
  tokens = tokenizer.special_tokens_map
  return {name: text for name, text in tokens.items() if isinstance(text, str)}


def _from_folder(folder: pathlib.Path) -> ChatTemplate:
  tokenizer = _tokenizer(folder)
  template = template_of(tokenizer, str(folder))
  if template is None and tokenizer.chat_template:
    names = ", ".join(sorted(tokenizer.chat_template))
    raise UserError(
      f"the tokenizer has several chat templates ({names}).",
      where=str(folder),
      remedy="Give the file of one of them as the template.",
    )
  if template is None:
    raise UserError(
      "the tokenizer has no chat template.",
      where=str(folder),
      remedy="Put a chat_template.jinja in the folder, or give a file of "
      "Jinja as the template.",
    )
  return template


def template_of(tokenizer: Any, name: str) -> ChatTemplate | None:
  """A Hugging Face tokenizer's template; None if it has no (default) one."""
  if not tokenizer.chat_template:
    return None
  try:
    text = tokenizer.get_chat_template()
  except ValueError:  # there are several templates, and no default
    return None
  return ChatTemplate(text, _special_tokens(tokenizer), name)


def _check(template: ChatTemplate, unknown: Sequence[str]) -> None:
  from jalign.data import bounded  # jinja2 is slow to import

  try:
    bounded.compiled(template.text)
  except Exception as error:  # of any kind: a template is anybody's program
    raise UserError(
      f"the chat template is not Jinja ({bounded.said(error)}).",
      where=template.name,
      remedy="Mend it; see transformers' documentation of chat templates.",
    ) from None
  if unknown:
    raise UserError(
      f"the chat template writes {', '.join(unknown)}, which Jinja would "
      "silently leave empty.",
      where=template.name,
      remedy="Give the folder of the tokenizer, too: load_template(..., "
      f"tokens_of=DIR), or {unknown[0]}=TEXT; config.tokenizer.path or "
      "--tokenizer gives the folder, too.",
    )
