"""From config to data: the split, the tokenizer, the floor, what is kept and what is refused."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from minids import config
from minids.data import load, tales
from minids.data.load import open_data
from minids.data.tokenizer import Tokenizer
from minids.errors import UserError


def run(*overrides: str) -> config.RunConfig:
    return config.load("tiny", overrides)


def text_run(path: Path, *overrides: str) -> config.RunConfig:
    fields = ("data.name=text", f"data.path={path}", "data.tokenizer=byte", "data.context=16")
    return run(*fields, *overrides)


@pytest.fixture
def rows(tmp_path) -> Path:
    """200 documents, every fifth a copy of an earlier one."""
    texts = [f"document {i - i % 5 if i % 5 == 4 else i} says {i % 5 < 4}" for i in range(200)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"text": t}) for t in texts))
    return path


def train_texts(data: load.Data) -> list[str]:
    shard = data.shard
    return [data.tokenizer.decode(shard.document(i).tolist()) for i in range(shard.n_train)]


# The split


@pytest.mark.parametrize("share", [0.005, 0.05, 0.3, 0.5])
def test_equal_texts_fall_on_one_side_and_every_document_on_one(rows, share):
    data = open_data(text_run(rows, f"data.held_out={share}"))
    train, held_out = train_texts(data), [d.text for d in data.held_out]
    assert not set(train) & set(held_out)
    assert len(train) + len(held_out) == 200
    assert abs(len(held_out) - share * 200) <= 3 and held_out


def test_the_split_depends_on_the_seed_and_not_on_the_order(rows):
    def held_out(*overrides):
        return {d.text for d in open_data(text_run(rows, *overrides)).held_out}

    before = held_out()
    assert held_out("data.seed=2") != before
    rows.write_text("\n".join(rows.read_text().splitlines()[::-1]))
    assert held_out() == before


def test_a_single_text_is_cut_where_nanogpt_cuts_it(tmp_path):
    text = "".join(chr(97 + i % 26) for i in range(1003))
    (tmp_path / "book.txt").write_text(text)
    data = open_data(text_run(tmp_path / "book.txt", "data.held_out=0.1"))
    assert train_texts(data) == [text[: int(len(text) * 0.9)]]
    assert [d.text for d in data.held_out] == [text[int(len(text) * 0.9) :]]


def test_copies_of_one_text_cannot_be_split(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "the same words"}\n' * 9)
    with pytest.raises(UserError, match="are the same text"):
        open_data(text_run(tmp_path / "a.jsonl"))


def test_held_out_documents_carry_text_tokens_and_bytes(tmp_path):
    (tmp_path / "a.txt").write_text("naïve 世界 " * 40)
    data = open_data(text_run(tmp_path / "a.txt"))
    (document,) = data.held_out
    assert document.n_bytes == len(document.text.encode()) == len(document.tokens) - 2
    assert (document.tokens[0], document.tokens[-1]) == (data.tokenizer.bos, data.tokenizer.eos)
    assert document.tokens[1:-1] == data.tokenizer.encode(document.text)
    assert data.held_out[-1:] == [document] and document.floor_bits is data.floor_bits is None
    with pytest.raises(IndexError):
        data.held_out[1]


# Size


def test_text_shorter_than_a_sequence_is_refused_and_just_enough_trains(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("x" * 16)
    with pytest.raises(UserError, match=r"16 tokens in a\.txt, needs ≥ 17"):
        open_data(text_run(path))
    path.write_text("x" * 17)
    batch = open_data(text_run(path)).train(batch_size=2).next()
    assert (batch.labels >= 0).any(dim=1).all()


POOR = {"letter": "a", "newlines": "\n", "emoji": "🙂", "pairs": "a\n", "line": "one line "}


@pytest.mark.parametrize("text", [text * 2000 for text in POOR.values()], ids=list(POOR))
@pytest.mark.parametrize("tokenizer", ["byte", "char", "bpe"])
def test_poor_text_trains(tmp_path, text, tokenizer):
    (tmp_path / "a.txt").write_text(text)
    data = open_data(text_run(tmp_path / "a.txt", f"data.tokenizer={tokenizer}"))
    batch = data.train().next()
    assert batch.tokens.max() < data.cfg.model.vocab_size == data.tokenizer.vocab_size
    assert (batch.labels >= 0).any()


def test_documents_of_one_token_train(tmp_path):
    rows = "\n".join(json.dumps({"text": chr(97 + i)}) for i in range(26))
    (tmp_path / "a.jsonl").write_text(rows)
    feed = open_data(text_run(tmp_path / "a.jsonl")).train(batch_size=2)
    assert (feed.next().labels >= 0).sum() > 10


def test_special_tokens_in_the_text_stay_text(tmp_path):
    (tmp_path / "a.txt").write_text("an <|eos|> and a <|bos|> in the text. " * 20)
    data = open_data(text_run(tmp_path / "a.txt", "data.tokenizer=bpe"))
    tokens = data.shard.document(0).tolist()
    assert Counter(t for t in tokens if t >= data.tokenizer.bos) == {
        data.tokenizer.bos: 1,
        data.tokenizer.eos: 1,
    }


# Tokenizers


def test_the_model_takes_the_vocabulary_of_a_tokenizer_made_for_the_text(tmp_path):
    text = "To be, or not to be: that is the question.\n" * 20
    (tmp_path / "a.txt").write_text(text)
    for kind, size in (("byte", 256 + 16), ("char", len(set(text)) + 16)):
        cfg = open_data(text_run(tmp_path / "a.txt", f"data.tokenizer={kind}")).cfg
        assert cfg.model.vocab_size == size
    auto = open_data(text_run(tmp_path / "a.txt", "data.tokenizer=auto", "model.vocab_size=290"))
    assert (auto.tokenizer.kind, auto.cfg.model.vocab_size) == ("bpe", 290)


def test_a_tokenizer_folder_must_match_the_model(tmp_path, rows):
    Tokenizer.of_bytes().save(tmp_path / "mine")
    named = f"data.tokenizer={tmp_path / 'mine'}"
    with pytest.raises(UserError, match=r"model\.vocab_size: 1536, but .* has 272"):
        open_data(text_run(rows, named))
    data = open_data(text_run(rows, named, "model.vocab_size=272"))
    assert data.tokenizer.fingerprint == Tokenizer.of_bytes().fingerprint
    with pytest.raises(UserError, match=r"data\.tokenizer"):
        open_data(text_run(rows, "data.tokenizer=bqe"))


# Keeping and finding again


def test_opening_writes_nothing(rows, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    open_data(text_run(rows), tmp_path / "run")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_folder_gives_the_same_data_without_reading_the_text_again(
    rows, tmp_path, monkeypatch
):
    cfg = text_run(rows, "data.tokenizer=bpe", "model.vocab_size=300")
    first = open_data(cfg)
    first.save(tmp_path / "run")
    monkeypatch.setattr(load, "tokenize", None)
    monkeypatch.setattr(Tokenizer, "train", None)
    again = open_data(first.cfg, tmp_path / "run")
    assert again.fingerprint == first.fingerprint
    assert again.held_out[:] == first.held_out[:]
    a, b = first.train().next(), again.train().next()
    assert a.ids == b.ids and torch.equal(a.tokens, b.tokens)


def test_other_text_another_split_and_another_tokenizer_change_the_fingerprint(rows, tmp_path):
    data = open_data(text_run(rows))
    data.save(tmp_path / "run")
    found = {data.fingerprint}
    for change in ("data.seed=2", "data.held_out=0.1"):
        found.add(open_data(text_run(rows, change), tmp_path / "run").fingerprint)
    found.add(open_data(text_run(rows, "data.tokenizer=char")).fingerprint)
    rows.write_text(rows.read_text().replace("document 7 ", "document 7! "))
    found.add(open_data(text_run(rows), tmp_path / "run").fingerprint)
    assert len(found) == 5


def test_a_prepared_folder_is_data_by_itself(rows, tmp_path):
    first = open_data(text_run(rows))
    first.save(tmp_path / "prepared")
    rows.unlink()
    again = open_data(text_run(tmp_path / "prepared"))
    assert again.fingerprint == first.fingerprint
    assert again.held_out[:] == first.held_out[:]


def test_a_truncated_token_file_is_named(rows, tmp_path):
    open_data(text_run(rows)).save(tmp_path / "run")
    tokens = tmp_path / "run" / "tokens.shard"
    tokens.write_bytes(tokens.read_bytes()[:-3])
    with pytest.raises(UserError, match="header announces"):
        open_data(text_run(rows), tmp_path / "run")


def test_the_text_may_vanish_while_training(rows):
    feed = open_data(text_run(rows)).train()
    feed.next()
    rows.write_text("")
    feed.next()


# Tales

TALES = ("data.tokenizer=byte", "data.documents=40", "data.held_out=0.2", "data.context=64")


def test_the_floor_is_the_probability_of_the_held_out_tales():
    data = open_data(run(*TALES))
    expected = list(tales.generate(data.cfg.data.seed, 8))
    assert [d.text for d in data.held_out] == [tale.text for tale in expected]
    assert data.floor_bits == pytest.approx(-sum(tale.log2_prob for tale in expected), rel=1e-12)
    assert [d.floor_bits for d in data.held_out] == [-tale.log2_prob for tale in expected]
    for document in data.held_out:
        assert document.n_bytes == data.tokenizer.n_bytes(document.tokens)


def test_training_reads_every_other_tale_once_an_epoch_and_in_order():
    data = open_data(run(*TALES))
    feed = data.train(batch_size=1)
    seen, starts = Counter(), []
    while feed.epoch == 0 and (feed.waiting or feed.drawn < feed.n_draws):
        for label in feed.next().ids[0]:
            seen[label] += 1
            if ":" not in label:
                starts.append(int(label))
    assert set(starts) == set(range(8, 40)) and max(seen.values()) == 1
    first = list(feed.source.order)
    feed.source.begin(1)
    assert first == list(range(32)) != list(feed.source.order)


def test_a_tale_that_is_held_out_is_not_trained_on(monkeypatch):
    data = open_data(run(*TALES))
    original = tales.generate
    text = data.held_out[0].text

    def with_a_copy(seed, n, start=0):
        for i, tale in enumerate(original(seed, n, start=start), start):
            yield tale._replace(text=text) if i == 20 else tale

    monkeypatch.setattr(tales, "generate", with_a_copy)
    feed = data.train(batch_size=1)
    documents = set()
    while feed.epoch == 0 and (feed.waiting or feed.drawn < feed.n_draws):
        documents |= {int(label.split(":")[0]) for label in feed.next().ids[0]}
    assert documents == set(range(8, 40)) - {20}


def test_tales_resume_inside_the_second_epoch():
    data = open_data(run(*TALES))
    whole = data.train()
    while whole.epoch < 1:
        whole.next()
    again = open_data(run(*TALES)).train()
    again.load_state_dict(json.loads(json.dumps(whole.state_dict())))
    for _ in range(5):
        a, b = whole.next(), again.next()
        assert a.ids == b.ids and torch.equal(a.tokens, b.tokens)


def test_tales_start_without_making_the_training_set(monkeypatch):
    made = Counter()
    original = tales.generate

    def counted(seed, n, start=0):
        for tale in original(seed, n, start=start):
            made["tales"] += 1
            yield tale

    monkeypatch.setattr(tales, "generate", counted)
    data = open_data(run("data.tokenizer=byte", "data.documents=1000000"))
    assert made["tales"] == load.HELD_OUT_TALES == len(data.held_out)
    data.train()
    assert made["tales"] == load.HELD_OUT_TALES


def test_other_tales_have_another_fingerprint():
    found = [
        open_data(run(*TALES, *change)).fingerprint
        for change in ([], ["data.seed=2"], ["data.documents=41"], ["data.tokenizer=char"])
    ]
    assert len(set(found)) == 4
    assert open_data(run(*TALES)).fingerprint == found[0]


def test_describe_says_what_the_data_is(rows):
    for cfg in (run(*TALES), text_run(rows)):
        about = open_data(cfg).describe()
        assert about["train_documents"] > about["held_out_documents"] > 0
        assert about["bytes_per_token"] == pytest.approx(1.0)
        assert about["example"]
        json.dumps(about)
    assert open_data(run(*TALES)).describe()["floor_bits_per_byte"] > 0


def test_the_order_of_training_follows_the_training_seed(rows):
    cfg = text_run(rows)
    other = dataclasses.replace(cfg, train=dataclasses.replace(cfg.train, seed=2))
    assert open_data(cfg).train().next().ids != open_data(other).train().next().ids
    assert open_data(cfg).fingerprint == open_data(other).fingerprint
