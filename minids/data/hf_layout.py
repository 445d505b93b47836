"""A vocabulary in the files of `tokenizers` and `transformers`.

Both spell a token as printable text and list merges as pairs. Ours knows only ranks, so every way
to put a token together from two others becomes a pair, in the order of the tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minids.data.tokenizer import Tokenizer


def tokenizer_json(tokenizer: Tokenizer) -> dict[str, Any]:
    """The vocabulary in the layout of the `tokenizers` library, which gives the same ids.

    With one difference that is its convention: it finds special tokens inside a text, unless told
    `encode_special_tokens`. Chat templates of `transformers` live from that.
    """
    is_char = tokenizer.kind == "char"
    spell = (lambda token: token.decode()) if is_char else printable
    known = set(tokenizer.tokens)
    merges = [
        [spell(token[:cut]), spell(token[cut:])]
        for token in ([] if is_char else tokenizer.tokens)
        for cut in range(1, len(token))
        if token[:cut] in known and token[cut:] in known
    ]
    pieces = {"type": "Split", "pattern": {"Regex": tokenizer.pattern}, "behavior": "Isolated"}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    byte_level["use_regex"] = False
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": token, "content": name, "special": True, "normalized": False}
            | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
            for name, token in tokenizer.specials.items()
        ],
        "normalizer": None,
        "pre_tokenizer": None
        if is_char
        else {"type": "Sequence", "pretokenizers": [pieces | {"invert": False}, byte_level]},
        "post_processor": None,
        "decoder": {"type": "Fuse"} if is_char else byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {spell(token): rank for rank, token in enumerate(tokenizer.tokens)},
            "merges": merges,
        },
    }


def tokenizer_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """What `AutoTokenizer` needs beside the vocabulary, and what we need to read it back.

    BOS is not added to a text here or there: whoever builds a sequence puts it in front.
    """
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|bos|>",
        "eos_token": "<|eos|>",
        "pad_token": "<|pad|>",
        "clean_up_tokenization_spaces": False,
        "minids": {"kind": tokenizer.kind, "pattern": tokenizer.pattern},
    }


def printable(token: bytes) -> str:
    """Bytes as `tokenizer.json` spells them: the unprintable ones become letters from U+0100 on.

    This is the byte table of GPT-2: a blank is Ġ, a line feed Ċ.
    """
    return "".join(LETTER_OF_BYTE[byte] for byte in token)


SHOWN = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
HIDDEN = [byte for byte in range(256) if byte not in SHOWN]
LETTER_OF_BYTE = {byte: chr(byte) for byte in SHOWN} | {
    byte: chr(0x100 + i) for i, byte in enumerate(HIDDEN)
}
