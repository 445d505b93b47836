"""The tokenizer in the package is the one that its recipe gives."""

import pytest

from minids.data import shipped, tales
from minids.data.tokenizer import SHIPPED, Tokenizer

FILES = ["ranks.tiktoken", "tokenizer.json", "tokenizer_config.json"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tales")
    shipped.tales_tokenizer().save(folder)
    return folder


@pytest.mark.parametrize("name", FILES)
def test_learning_it_again_gives_the_same_bytes(made, name):
    assert (made / name).read_bytes() == (SHIPPED / "tales" / name).read_bytes()


def test_the_package_holds_nothing_else():
    assert sorted(p.name for p in (SHIPPED / "tales").iterdir()) == FILES


def test_it_reads_tales_briefly_and_everything_else_too():
    tokenizer = Tokenizer.shipped("tales")
    assert (tokenizer.kind, tokenizer.vocab_size) == ("bpe", 1536)
    texts = [tale.text for tale in tales.generate(seed=5, n=50)]
    n_tokens = sum(len(tokenizer.encode(text)) for text in texts)
    assert sum(len(text.encode()) for text in texts) / n_tokens > 3.5
    for text in (*texts, "(3+4)*5=35 [x] {y} <z>", "naïve 世界 🙂\n\t"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode("7*(12-5)=49")) == 11


def test_tokenizers_reads_it_and_gives_the_same_ids():
    tokenizers = pytest.importorskip("tokenizers")
    ours = Tokenizer.shipped("tales")
    theirs = tokenizers.Tokenizer.from_file(str(SHIPPED / "tales" / "tokenizer.json"))
    for tale in tales.generate(seed=6, n=50):
        assert theirs.encode(tale.text).ids == ours.encode(tale.text)
