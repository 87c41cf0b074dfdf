"""Folders with small tokenizers that behave like those of known families."""

import functools
import json
import pathlib

import tokenizers
import transformers
from tokenizers import (
  decoders,
  models,
  normalizers,
  pre_tokenizers,
  processors,
)

CHATML = (
  "{% for m in messages %}"
  "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
  "{% endfor %}"
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GEMMA = (
  "{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + "
  "('model' if m.role == 'assistant' else m.role) + '\n' + "
  "(m.content | trim) + '<end_of_turn>\n' }}{% endfor %}"
  "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
PHI = (
  "{% for m in messages %}"
  "{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
  "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}"
  "{% else %}{{ eos_token }}{% endif %}"
)
# Marks aren't special tokens, the template writes a bos, turns have spaces.
LLAMA = (
  "{{ bos_token }}{% for m in messages %}"
  "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
  "{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
)
# The roles are plain text, so tokens might cross the borders of turns.
ZEPHYR = (
  "{% for m in messages %}"
  "{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}{% endfor %}"
  "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
# Earlier answers lack the empty thought that the last answer has.
QWEN = (
  "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
  "{% if m.role == 'assistant' and loop.last %}"
  "{{ '<think>\n\n</think>\n\n' }}{% endif %}"
  "{{ m.content + '<|im_end|>\n' }}{% endfor %}"
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# The generation prompt opens a thought, which the given turns don't have.
THINKING = CHATML.replace("assistant\n' }}", "assistant\n<think>\n' }}")


def byte_level(
  folder,
  template=CHATML,
  *,
  eos="<|im_end|>",
  bos=None,
  more=("<|im_start|>",),
  begins=False,
  generation=None,
):
  """A byte-level BPE in which every ASCII character is a token.

  Args:
    folder: where the tokenizer is written.
    template: chat template; None for none.
    eos: text of the end of sequence.
    bos: text of the beginning of sequence.
    more: other special tokens.
    begins: whether the post-processor puts bos in front of a text.
    generation: texts of the eos_token_id in generation_config.json.
  """
  alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
  vocab = {c: i for i, c in enumerate(alphabet)}
  backend = tokenizers.Tokenizer(models.BPE(vocab, []))
  backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  backend.decoder = decoders.ByteLevel()
  return _write(folder, backend, template, eos, bos, more, begins, generation)


def gemma(folder, template=GEMMA, **options):
  """As Gemma's: turns don't end with eos; the template writes a bos."""
  special = ("<start_of_turn>", "<end_of_turn>")
  options = {"eos": "<eos>", "bos": "<bos>", "more": special} | options
  return byte_level(folder, template, **options)


def phi(folder, template=PHI, **options):
  """As Phi's: texts and turns end with different tokens; nothing writes bos."""
  special = ("<|end|>", "<|user|>", "<|assistant|>", "<|system|>")
  options = {"eos": "<|endoftext|>", "bos": "<s>", "more": special} | options
  return byte_level(folder, template, **options)


def phi_stripping(folder):
  """Phi's, with marks that take the white space beside them, as Phi-3's do."""
  mark = functools.partial(tokenizers.AddedToken, special=True, rstrip=True)
  marks = [
    mark("<|end|>", lstrip=True),
    mark("<|user|>"),
    mark("<|assistant|>"),
  ]
  return phi(folder, more=marks)


def spaced(
  folder,
  how="first",
  template=LLAMA,
  *,
  eos="</s>",
  bos="<s>",
  more=("[INST]", "[/INST]"),
  begins=False,
  generation=None,
):
  """A BPE like SentencePiece's: a space is written "▁", and begins a text.

  Args:
    folder: where the tokenizer is written.
    how: "first", "always" or "never" of the pre-tokeniser Metaspace; "words"
      for "always" with words apart; "prepend" for the normaliser of older
      files; "llama" for what `transformers.LlamaTokenizer` makes itself.
    template: see `byte_level`, as for the other arguments.
    eos: text of the end of sequence.
    bos: text of the beginning of sequence.
    more: other special tokens.
    begins: whether the post-processor puts bos in front of a text.
    generation: texts of the eos_token_id in generation_config.json.
  """
  characters = ["<unk>", "▁", "\n", *map(chr, range(33, 127))]
  merges = [("▁", "y"), ("▁y", "o"), ("y", "o"), ("\n", "n"), (":", "▁")]
  texts = dict.fromkeys([*characters, *(a + b for a, b in merges)])
  vocab = {text: i for i, text in enumerate(texts)}
  backend = tokenizers.Tokenizer(
    models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True)
  )
  if how == "prepend":
    backend.normalizer = normalizers.Sequence(
      [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
  else:
    scheme = "always" if how == "words" else how.replace("llama", "first")
    backend.pre_tokenizer = pre_tokenizers.Metaspace(
      prepend_scheme=scheme, split=how == "words"
    )
  strip = [] if how == "never" else [decoders.Strip(" ", 1, 0)]
  backend.decoder = decoders.Sequence(
    [decoders.Replace("▁", " "), decoders.Fuse(), *strip]
  )
  made = None
  if how == "llama":
    made = transformers.LlamaTokenizer(
      vocab=vocab, merges=merges, bos_token=bos, eos_token=eos
    )
    backend = made.backend_tokenizer
  return _write(
    folder, backend, template, eos, bos, more, begins, generation, made
  )


def unigram(folder, template=LLAMA, **options):
  """Like SentencePiece's unigram model, which takes the likeliest tokens."""
  pieces = [("<unk>", 0.0), ("▁", -2.0), ("\n", -2.0)]
  pieces += [(chr(i), -3.0) for i in range(33, 127)]
  pieces += [("▁y", -2.5), ("▁yo", -3.0), ("yo", -3.5), (":▁", -3.0)]
  backend = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=0))
  backend.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
  backend.decoder = decoders.Metaspace()
  options = {"begins": False, "generation": None} | options
  special = ("</s>", "<s>", ("[INST]", "[/INST]"))
  return _write(folder, backend, template, *special, *options.values())


def _write(
  folder, backend, template, eos, bos, more, begins, generation, made=None
):
  folder = pathlib.Path(folder)
  backend.add_special_tokens([t for t in (bos, eos, *more) if t])
  if begins:
    backend.post_processor = processors.TemplateProcessing(
      single=f"{bos} $A",
      special_tokens=[(bos, backend.token_to_id(bos))],
    )
  tokenizer = made or transformers.PreTrainedTokenizerFast(
    tokenizer_object=backend,
    eos_token=eos,
    bos_token=bos,
    clean_up_tokenization_spaces=False,
  )
  tokenizer.chat_template = template
  tokenizer.save_pretrained(str(folder))
  if generation is not None:
    single = isinstance(generation, str)
    ids = [
      backend.token_to_id(t) for t in ([generation] if single else generation)
    ]
    text = json.dumps({"eos_token_id": ids[0] if single else ids})
    (folder / "generation_config.json").write_text(text)
  return folder
