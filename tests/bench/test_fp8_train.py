"""FP8 training beside bfloat16: a very short comparison, and what is kept of a broken-off one."""

import json

import pytest

from minids.bench import fp8_train
from minids.bench.harness import Plan
from minids.config import load
from minids.errors import UserError
from minids_cli import bench_fp8_train
from minids_cli.main import main

SMALL = [
    "model.hidden_size=32", "model.num_hidden_layers=2", "model.n_routed_experts=2",
    "model.intermediate_size=48", "model.moe_intermediate_size=32",
    "model.num_nextn_predict_layers=0", "data.documents=120", "data.held_out=0.1",
    "data.context=48", "train.batch_size=2", "train.max_steps=3", "train.warmup_steps=1",
]  # fmt: skip


def plan(**changes):
    return Plan(**{"peer": None, "threads": 1, "repeats": 1, "seconds": 0.1} | changes)


def test_from_the_command_to_the_table(tmp_path, capsys):
    receipt = tmp_path / "receipt.json"
    flags = [f for change in SMALL for f in ("--set", change)]
    arguments = ["bench", "fp8-train", "--device", "cpu", "--repeats", "1", "--only", "per tensor"]
    assert main([*arguments, *flags, "--receipt", str(receipt)]) == 0
    assert "from bfloat16" in capsys.readouterr().out
    found = json.loads(receipt.read_text())
    plain, tensor = found["cases"]
    assert (plain["case"], tensor["case"], found["steps"]) == ("bfloat16", "per tensor", 3)
    assert plain["held_out_apart"]["seeds"] == [0.0]
    assert 0 < abs(tensor["held_out_apart"]["median"]) < 0.1
    assert [p.name for p in tmp_path.iterdir()] == ["receipt.json"]


def test_all_ways_multiply_differently_from_the_same_start():
    cfg = load("tiny", SMALL)
    runs = {name: fp8_train.train(cfg, way, "cpu") for name, way in fp8_train.SIMULATED.items()}
    lasts = [r["losses"][-1] for r in runs.values()]  # outputs begin at zero: so do differences
    assert len(set(lasts)) == len(lasts) and max(lasts) - min(lasts) < 0.05
    for name in ("per tensor", "v3", "v3 unpromoted"):
        assert runs[name]["held_out"] != runs[name]["in_bfloat16"], name
    assert runs["bfloat16"]["held_out"] == runs["bfloat16"]["in_bfloat16"]


def test_a_finished_run_is_not_repeated(tmp_path, monkeypatch):
    asked = []

    def pretend(arm):
        asked.append(arm.order["way"])
        if len(asked) == 3:
            raise UserError("power", "is gone", code=1)
        same = dict.fromkeys(("end", "held_out", "in_bfloat16"), 2.0 + 0.01 * len(asked))
        return same | {"losses": [2.0], "parameters": 5}

    monkeypatch.setattr(fp8_train, "run", pretend)
    kept = tmp_path / "part"
    with pytest.raises(UserError):
        fp8_train.bench(plan(), "cpu", kept=kept)
    with kept.open("a") as file:
        file.write('{"order": {"way": "v')  # torn off
    with kept.open("a") as file:
        file.write("\n")
    found = fp8_train.bench(plan(), "cpu", kept=kept)
    twice = [name for name in fp8_train.SIMULATED if asked.count(name) == 2]
    assert twice == ["per tensor"] and len(asked) == 6
    assert found["cases"][1]["held_out_apart"]["median"] == pytest.approx(0.01 / 2.01)
    bench_fp8_train.draw(found, "here")


def test_flags_that_say_nothing_here_are_refused(capsys):
    for flags in (["--against", "transformers"], ["--device", "tpu"], ["--set", "train.lr=no"]):
        assert main(["bench", "fp8-train", *flags]) == 2, flags
    with pytest.raises(UserError, match="in no way's name"):
        fp8_train.bench(plan(only="fp7"), "cpu")


def test_held_out_loss_reads_the_first_tokens_of_each_document():
    import torch

    from minids.data.load import open_data
    from minids.nn.transformer import Transformer

    data = open_data(load("tiny", SMALL), None)
    model = Transformer(data.cfg.model)
    model.init_weights(torch.Generator().manual_seed(1))
    total, n = 0.0, 0
    with torch.no_grad():
        for document in data.held_out:
            ids = torch.tensor(document.tokens[:21])[None]
            logp = model(ids[:, :-1]).log_softmax(-1)
            total -= logp.gather(-1, ids[:, 1:, None]).sum().item()
            n += ids.shape[1] - 1
    assert fp8_train.held_out_loss(model, data.held_out, 20) == pytest.approx(total / n, rel=1e-5)
