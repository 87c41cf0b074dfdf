"""Writes a folder, as on a hub: a tokenizer of characters, a chat template."""

import tokenizers
import transformers

CHATML = (
  "{% for m in messages %}"
  "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
  "{% endfor %}"
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# The same text, with the assistant's turns marked.
MARKED = (
  "{% for m in messages %}"
  "{{ '<|im_start|>' + m['role'] + '\n' }}"
  "{% if m['role'] == 'assistant' %}"
  "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
  "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}"
  "{{ '\n' }}{% endfor %}"
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def write(folder, template=CHATML, bos=None):
  """Writes the folder; every ASCII character is a token of its own."""
  alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
  backend = tokenizers.Tokenizer(
    tokenizers.models.BPE({c: i for i, c in enumerate(alphabet)}, [])
  )
  backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
    add_prefix_space=False
  )
  backend.decoder = tokenizers.decoders.ByteLevel()
  tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=backend,
    eos_token="<|im_end|>",
    bos_token=bos,
    additional_special_tokens=["<|im_start|>"],
    clean_up_tokenization_spaces=False,
  )
  tokenizer.chat_template = template
  tokenizer.save_pretrained(str(folder))
  return folder
