"""A byte-pair vocabulary of CLIP's form, learned from texts."""

import json
from collections.abc import Iterable

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

_WORD_END = "</w>"
_SPECIAL = ("<|startoftext|>", "<|endoftext|>")  # last, as in CLIP: an end token with id 2 means another thing there


def learn_clip_tokenizer(texts: Iterable[str], *, vocab_size: int) -> CLIPTokenizer:
    """Learn a vocabulary.

    Args:
        texts: to learn from.
        vocab_size: number of tokens, single characters included; at least 514 (all bytes, inside and at the end of a
            word, and CLIP's two special tokens).

    Raises:
        ValueError: when the vocabulary is too small.
    """
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(letter + _WORD_END for letter in letters)]
    least = len(tokens) + len(_SPECIAL)
    if vocab_size < least:
        raise ValueError(f"`vocab_size` must be at least {least}, for all bytes, got {vocab_size}.")
    trained = CLIPTokenizer().train_new_from_iterator(texts, vocab_size=vocab_size)
    # What it learned knows the letters of the texts alone, and would read any other as the end of the text.
    merges = [tuple(merge) for merge in json.loads(trained.backend_tokenizer.to_str())["model"]["merges"]]
    merges = merges[: vocab_size - least]
    tokens = list(dict.fromkeys([*tokens, *("".join(merge) for merge in merges)])) + list(_SPECIAL)
    return CLIPTokenizer(vocab={token: number for number, token in enumerate(tokens)}, merges=merges)


__all__ = ["learn_clip_tokenizer"]
