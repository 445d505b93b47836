"""`minids train` on several ranks, from outside: one run, one voice; what happens if one dies."""

import json
import shutil
import socket
import subprocess
import sys

import pytest

from minids_cli.main import main

TRAIN = ["-m", "minids", "train"]
SMALL = [
    "model.hidden_size=32", "model.num_hidden_layers=2", "model.num_attention_heads=2",
    "model.q_lora_rank=16", "model.kv_lora_rank=16", "model.qk_nope_head_dim=8",
    "model.qk_rope_head_dim=8", "model.v_head_dim=8", "model.intermediate_size=48",
    "model.moe_intermediate_size=16", "model.n_routed_experts=8", "model.n_group=4",
    "model.topk_group=2", "model.num_experts_per_tok=3", "data.name=tales", "data.tokenizer=auto",
    "data.context=64", "data.documents=200", "train.batch_size=4", "train.grad_accum=1",
    "train.max_steps=8", "train.warmup_steps=2", "train.save_every=2", "train.eval_every=0",
    "train.eval_documents=2", "train.threads=1", "train.precision=float32", "train.device=cpu",
    "parallel.expert=2",
]  # fmt: skip
NODE = ["--config", "node", *(word for field in SMALL for word in ("--set", field))]


def ended(processes):
    """→ codes, stdout of each, all lines of stderr"""
    said = [process.communicate(timeout=120) for process in processes]
    lines = [line for _, err in said for line in err.splitlines() if "hint:" not in line]
    return [process.returncode for process in processes], [out for out, _ in said], lines


def steps(folder):
    """Lines of metrics.jsonl."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_four_ranks_in_two_stages_lose_one_and_two_end_the_run_of_one_process(start, tmp_path):
    alone, many = tmp_path / "alone", tmp_path / "many"
    command = [sys.executable, *TRAIN, *NODE, "--inject", "nan-grad@3", "--out", str(alone)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)

    broken = ["--inject", "nan-grad@3:rank2,exit@step:7:rank1", "--out", str(many),
              "--set", "parallel.pipeline=2", "--set", "parallel.checkpoint=sharded"]  # fmt: skip
    codes, out, lines = ended(start([*TRAIN, *NODE, *broken], 4))
    assert codes == [1, 137, 1, 1] and out[1:] == ["", "", ""] and "saved step-00000006" in out[0]
    assert len(lines) == 1 and "lost another worker" in lines[0], lines

    saved = many / "checkpoints/step-00000006"
    assert len(list(saved.glob("shard-*.safetensors"))) == 4  # nobody gathered anything
    shutil.copytree(many, tmp_path / "by one")
    command = ["train", "--resume", str(tmp_path / "by one"), "--set", "parallel.pipeline=1"]
    assert main([*command, "--set", "parallel.checkpoint=whole"]) == 0

    again = [*TRAIN, "--resume", str(many), "--set", "parallel.pipeline=1"]
    codes, out, lines = ended(start(again, 2))
    assert codes == [0, 0] and not lines and "weights_sha256=" in out[0] and not out[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "by one", "many"]
    one, two, three = steps(alone), steps(many), steps(tmp_path / "by one")
    assert [line["step"] for line in two] == [line["step"] for line in three] == [*range(1, 9)]
    for a, b in [*zip(one, two, strict=True), *zip(one, three, strict=True)]:
        assert a["data_pos"] == b["data_pos"]
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)  # float32, other orders of sums
        assert a["skipped"] == b["skipped"] == (a["step"] == 3)  # one rank's NaN stops all
        moved = sum(
            abs(x - y) for x, y in zip(a["expert_load"][0], b["expert_load"][0], strict=True)
        )
        assert moved <= 2  # a tie may fall the other way, biases do not drift


def test_a_spike_on_one_rank_and_a_nan_on_another_take_all_back_in_fp8(start, tmp_path):
    words = [*NODE]
    for field in ("train.precision=fp8-sim", "train.max_steps=20", "train.max_skips=1",
                  "train.save_every=8", "model.num_hidden_layers=1"):  # fmt: skip
        words += ["--set", field]
    faults = "spike@18{},nan-grad@19{}"
    alone = [*words, "--inject", faults.format("", ""), "--out", str(tmp_path / "alone")]
    assert main(["train", *alone]) == 0
    broken = faults.format(":rank1", ":rank0")
    codes, out, lines = ended(
        start([*TRAIN, *words, "--inject", broken, "--out", str(tmp_path / "many")], 2)
    )
    assert codes == [0, 0] and not lines
    assert "step-00000016" in out[0] and "spikes" not in out[1]
    one, two = steps(tmp_path / "alone"), steps(tmp_path / "many")
    assert len(two) == 20
    for a, b in zip(one, two, strict=True):
        assert a["skipped"] == b["skipped"] == (a["step"] in (18, 19))
        assert a["data_pos"] == b["data_pos"]
        if not a["skipped"]:  # bfloat16 between, sums in another order; no loss scale anywhere
            assert a["loss"] == pytest.approx(b["loss"], rel=2e-3)
    assert two[17]["loss"] > 4 * two[16]["loss"]


def test_torchrun_starts_anew_and_the_run_goes_on(tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
               "--max-restarts", "1", "--standalone", *TRAIN, *NODE, "--set", "train.max_steps=4",
               "--inject", "exit@step:4:rank1", "--out", str(out)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert "going on at step 2" in done.stdout and done.stderr.count("minids: error") <= 1
    assert [line["step"] for line in steps(out)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("environment", "words", "said"),
    [
        ({"WORLD_SIZE": "3"}, [], "parallel.expert: 2 expert ranks among 3 data ranks"),
        ({}, ["parallel.pipeline=3"], "parallel.pipeline: 3 stages on 4 processes"),
        ({}, ["parallel.expert=4", "model.n_routed_experts=2", "model.n_group=1",
              "model.topk_group=1", "model.num_experts_per_tok=2"],
         "parallel.expert: 4 ranks for 2 experts"),
        ({}, ["train.batch_size=6"], "train.batch_size: 6 sequences over 4 data ranks"),
        ({}, ["parallel.pipeline=2", "parallel.schedule=dualpipev"],
         "train.batch_size: 2 rows of a rank give no micro-batches for dualpipev"),
        ({}, ["parallel.data=3"], "parallel.data: 3 × 1 stages on 4 processes"),
        ({"MASTER_ADDR": ""}, [], "MASTER_ADDR: is not set, though RANK"),
        ({"WORLD_SIZE": ""}, [], "WORLD_SIZE: is not set"),
        ({"WORLD_SIZE": "four"}, [], "WORLD_SIZE: 'four' is no number"),
        ({"RANK": "4"}, [], "RANK: 4 of 4 processes"),
        ({"MASTER_PORT": "70000"}, [], "MASTER_PORT: 70000 is no port"),
        ({"TORCHELASTIC_RESTART_COUNT": "1"}, [], "--out: is not given"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_one_line_before_anybody_meets(
    environment, words, said, monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)
    there = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "4", "MASTER_ADDR": str(tmp_path),
             "MASTER_PORT": "1"}  # fmt: skip
    for name, value in (there | environment).items():
        monkeypatch.setenv(name, value)
    changes = [word for field in words for word in ("--set", field)]
    assert main(["train", *NODE, *changes]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"minids: error: {said}") and len(lines) <= 2
    assert not (tmp_path / "runs").exists()


def test_ranks_with_different_configs_end_with_one_line(start, tmp_path):
    changes = {1: ["--set", "train.lr=1e-3"]}
    words = [*TRAIN, *NODE, "--out", str(tmp_path / "run")]
    codes, _, lines = ended(start(words, 2, changes=changes))
    assert codes == [2, 2] and not (tmp_path / "run").exists()
    assert lines == ["minids: error: --config: rank 1 has lr = 0.001, rank 0 lr = 0.0006; "
                     "allowed: one config for all ranks"]  # fmt: skip


def test_who_finds_nobody_or_a_stranger_does_not_wait_for_ever(start, tmp_path):
    words = [*TRAIN, *NODE, "--set", "parallel.expert=1", "--set", "parallel.timeout_s=1"]
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        taken = str(stranger.getsockname()[1])
        alone = start(words, 2, ranks=[1], TMPDIR=str(tmp_path))
        (tmp_path / "b").mkdir()
        both = start(words, 2, MASTER_PORT=taken, TMPDIR=str(tmp_path / "b"))
        codes, _, lines = ended(alone)
        assert codes == [1] and len(lines) == 1 and "rank 1 of 2 did not meet" in lines[0]
        codes, _, lines = ended(both)
    assert codes == [1, 1] and len(lines) == 1 and "address already in use" in lines[0]
