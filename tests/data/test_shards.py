"""Token files: what is written is read, and what is wrong is named when the file is opened."""

import numpy as np
import pytest

from minids.data import shards
from minids.errors import UserError

NAME = "ab" * 32, "cd" * 32
WIDTH_AT, VERSION_AT = 12, 8


def shard(vocab_size: int = 300) -> shards.Shard:
    train, held_out = [[1, 2, 3], [4], [299, 0]], [[5, 6]]
    tokenizer, source = NAME
    return shards.gather(train, held_out, vocab_size=vocab_size, tokenizer=tokenizer, source=source)


@pytest.fixture
def path(tmp_path):
    shards.write(tmp_path / "tokens.shard", shard())
    return tmp_path / "tokens.shard"


def reason(path) -> str:
    with pytest.raises(UserError) as caught:
        shards.load(path)
    assert str(path) in caught.value.where
    return caught.value.line()


@pytest.mark.parametrize(("vocab_size", "dtype"), [(300, "<u2"), (65_536, "<u2"), (65_537, "<u4")])
def test_documents_come_back_in_the_narrowest_type(tmp_path, vocab_size, dtype):
    shards.write(tmp_path / "t", shard(vocab_size))
    back = shards.load(tmp_path / "t")
    assert back.tokens.dtype == np.dtype(dtype)
    assert [back.document(i).tolist() for i in range(4)] == [[1, 2, 3], [4], [299, 0], [5, 6]]
    assert (back.n_train, back.n_held_out, back.vocab_size) == (3, 1, vocab_size)
    assert (back.tokenizer, back.source) == NAME


def test_tokens_are_mapped_not_read(path):
    back = shards.load(path)
    assert isinstance(back.tokens, np.memmap)
    assert np.shares_memory(back.document(0), back.tokens)


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    (tmp_path / "t").mkdir()  # a folder where the file should go
    (tmp_path / "t" / "x").write_text("")
    with pytest.raises(UserError) as caught:
        shards.write(tmp_path / "t", shard())
    assert caught.value.code == 1
    assert [p.name for p in tmp_path.iterdir()] == ["t"]


def test_every_flipped_bit_behind_the_header_is_found(path):
    whole = path.read_bytes()
    for at in range(shards.HEADER.size, len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert "checksum" in reason(path)


@pytest.mark.parametrize("cut", [1, 7, 40, 120])
def test_a_truncated_file_is_named(path, cut):
    path.write_bytes(path.read_bytes()[:-cut])
    reason(path)


def test_a_file_that_is_too_long_is_named(path):
    path.write_bytes(path.read_bytes() + b"x")
    assert "header announces" in reason(path)


def test_a_foreign_file_is_named(path):
    path.write_bytes(b"\x93NUMPY" + path.read_bytes())
    assert "NUMPY" in reason(path)


def test_the_empty_and_the_missing_file_are_named(path):
    path.write_bytes(b"")
    assert "begins with b''" in reason(path)
    path.unlink()
    assert "No such file" in reason(path)


def test_a_newer_format_and_another_byte_order_are_named(path):
    whole = path.read_bytes()
    path.write_bytes(whole[:VERSION_AT] + (2).to_bytes(4, "little") + whole[VERSION_AT + 4 :])
    assert "format 2" in reason(path)
    path.write_bytes(whole[:VERSION_AT] + (1).to_bytes(4, "big") + whole[VERSION_AT + 4 :])
    assert "format 16777216" in reason(path)


def test_two_bytes_a_token_for_a_large_vocabulary_are_named(path):
    whole = path.read_bytes()
    path.write_bytes(whole[:16] + (65_537).to_bytes(8, "little") + whole[24:])
    assert "2 bytes a token for 65537 ids" in reason(path)


def test_an_id_outside_the_vocabulary_is_named_with_its_place(tmp_path):
    shards.write(tmp_path / "t", shard(vocab_size=299))
    assert "id 299 of 299 ids" in reason(tmp_path / "t")
    assert f"@{shards.HEADER.size + 4 * 2}" in reason(tmp_path / "t")


def test_document_borders_out_of_order_are_named(tmp_path):
    wrong = shard()._replace(offsets=np.array([0, 3, 2, 6, 8]))
    shards.write(tmp_path / "t", wrong)
    assert "out of order" in reason(tmp_path / "t")
