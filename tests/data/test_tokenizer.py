"""Tokenizers: lossless, closed to special tokens, the same ids in other people's libraries."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minids.data import bpe
from minids.data.tokenizer import SPECIALS, Tokenizer
from minids.errors import UserError

TEXT = 'Once upon a time, 12 cats sat: "Who has the lamp?" <|eos|> (3+4)*5=35 … naïve 世界 🙂\n' * 4
BPE = Tokenizer.train([TEXT], 330)
BYTE = Tokenizer.of_bytes()
CHAR = Tokenizer.of_characters([TEXT])
KINDS = [BPE, BYTE, CHAR]
each_kind = pytest.mark.parametrize("tokenizer", KINDS, ids=lambda t: t.kind)


@each_kind
def test_decode_undoes_encode(tokenizer):
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    assert tokenizer.encode("") == []


@given(st.text(max_size=80))
def test_every_text_survives_the_round_trip(text):
    for tokenizer in (BPE, BYTE):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.n_bytes(ids) == len(text.encode())


@given(st.binary(max_size=40))
def test_byte_counts_are_those_of_the_bytes_even_between_characters(raw):
    ids = list(raw)
    assert BYTE.decode_bytes(ids) == raw
    assert BYTE.n_bytes(ids) == len(raw)  # where a round trip through text would count U+FFFD


@each_kind
def test_special_tokens_stand_at_the_end_and_no_text_reaches_them(tokenizer):
    assert list(tokenizer.specials.values()) == list(
        range(tokenizer.vocab_size - len(SPECIALS), tokenizer.vocab_size)
    )
    for name in SPECIALS:
        if tokenizer.kind != "char":
            assert max(tokenizer.encode(f"a{name}b")) < tokenizer.bos
            assert tokenizer.decode(tokenizer.encode(name)) == name
    assert max(tokenizer.encode("<|eos|>")) < tokenizer.bos


@each_kind
def test_decode_leaves_special_tokens_out_unless_asked(tokenizer):
    ids = [tokenizer.bos, *tokenizer.encode("cat"), tokenizer.eos, tokenizer.pad]
    assert tokenizer.decode(ids) == "cat"
    assert tokenizer.decode(ids, specials=True) == "<|bos|>cat<|eos|><|pad|>"
    assert tokenizer.n_bytes(ids) == 3


def test_digits_are_single_tokens():
    assert len(BPE.encode("3512")) == 4


def test_an_unknown_character_is_named():
    with pytest.raises(UserError, match=r"'Z' at character 2"):
        CHAR.encode("a Z")


def test_half_a_surrogate_pair_is_named():
    for tokenizer in KINDS:
        with pytest.raises(UserError, match="surrogate"):
            tokenizer.encode("a\ud800")


def test_a_vocabulary_too_small_for_the_bytes_is_refused():
    with pytest.raises(UserError, match=r"model\.vocab_size"):
        Tokenizer.train([TEXT], 271)
    assert Tokenizer.train([TEXT], 272).vocab_size == 272


@each_kind
def test_a_saved_tokenizer_loads_as_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    back = Tokenizer.load(tmp_path)
    assert (back.kind, back.tokens, back.fingerprint) == (
        tokenizer.kind,
        tokenizer.tokens,
        tokenizer.fingerprint,
    )
    assert back.encode(TEXT) == tokenizer.encode(TEXT)


def test_a_regenerated_file_is_read_anew(tmp_path):
    BPE.save(tmp_path)
    Tokenizer.load(tmp_path)
    BYTE.save(tmp_path)
    assert Tokenizer.load(tmp_path).fingerprint == BYTE.fingerprint


def test_fingerprints_tell_kinds_and_vocabularies_apart():
    others = [Tokenizer.train([TEXT], 290), Tokenizer("bpe", bpe.BYTES)]
    assert len({t.fingerprint for t in [*KINDS, *others]}) == 5


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda lines: lines[:65] + lines[66:], "not the next token"),
        (lambda lines: [*lines, lines[0]], "not the next token"),
        (lambda lines: [*lines, f"{lines[0].split()[0]} {len(lines)}"], "not the next token"),
        (lambda lines: [*lines, "!!! 314"], "not the next token"),
        (lambda lines: [*lines, "YQ=="], "not the next token"),
        (lambda lines: ["YWI= 0", *lines[1:]], "1 of the 256 bytes are missing"),
        (lambda lines: lines[:0], "256 of the 256 bytes are missing"),
    ],
)
def test_a_damaged_rank_file_is_named_before_tiktoken_sees_it(tmp_path, edit, reason):
    BPE.save(tmp_path)
    ranks = tmp_path / "ranks.tiktoken"
    ranks.write_text("\n".join(edit(ranks.read_text().splitlines())))
    with pytest.raises(UserError, match=reason) as caught:
        Tokenizer.load(tmp_path)
    assert "ranks.tiktoken" in caught.value.where


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"minids": {"kind": "x"}}'])
def test_a_foreign_config_is_named(tmp_path, text):
    BPE.save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(text)
    with pytest.raises(UserError, match="not written by minids"):
        Tokenizer.load(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        Tokenizer.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"data\.tokenizer"):
        Tokenizer.shipped("nobody")


# Other people's libraries


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    tokenizers = pytest.importorskip("tokenizers")
    found = {}
    for tokenizer in KINDS:
        folder = tmp_path_factory.mktemp(tokenizer.kind)
        tokenizer.save(folder)
        found[tokenizer.kind] = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    return found


@each_kind
def test_tokenizers_gives_the_same_ids_and_text(tokenizer, theirs):
    text = TEXT.replace("<|eos|>", "")
    encoded = theirs[tokenizer.kind].encode(text).ids
    assert encoded == tokenizer.encode(text)
    assert theirs[tokenizer.kind].decode(encoded) == text
    assert theirs[tokenizer.kind].get_vocab_size() == tokenizer.vocab_size
    assert theirs[tokenizer.kind].token_to_id("<|bos|>") == tokenizer.bos


# Up to U+02FF, and a few beyond: the libraries know different versions of Unicode.
signs = st.one_of(st.characters(max_codepoint=0x2FF), st.sampled_from("aacst 世界🙂…\n\u3000"))


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=signs, max_size=60) | st.sampled_from([f"a {s}b" for s in SPECIALS]))
def test_tokenizers_gives_the_same_ids_for_any_text_when_told_that_it_is_text(theirs, text):
    for tokenizer in (BPE, BYTE):
        theirs[tokenizer.kind].encode_special_tokens = True
        assert theirs[tokenizer.kind].encode(text).ids == tokenizer.encode(text)


def test_tokenizers_takes_special_tokens_for_control_unless_told_otherwise(theirs):
    theirs["bpe"].encode_special_tokens = False
    assert theirs["bpe"].encode("a<|eos|>").ids == [*BPE.encode("a"), BPE.eos]


@each_kind
def test_transformers_loads_the_folder(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = TEXT.replace("<|eos|>", "")
    assert loaded(text).input_ids == tokenizer.encode(text)
    assert loaded.decode(loaded(text).input_ids) == text
    assert (loaded.bos_token_id, loaded.eos_token_id) == (tokenizer.bos, tokenizer.eos)
    assert (loaded.pad_token_id, len(loaded)) == (tokenizer.pad, tokenizer.vocab_size)


def test_the_rank_file_is_tiktokens_format(tmp_path, monkeypatch):
    load = pytest.importorskip("tiktoken.load")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    BPE.save(tmp_path)
    ranks = load.load_tiktoken_bpe(str(tmp_path / "ranks.tiktoken"))
    assert list(ranks) == BPE.tokens
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["eos_token"] == "<|eos|>"
