"""`minids cost` and `minids claims` from outside."""

import json

import pytest


def test_the_published_bill_is_printed_to_the_dollar(minids):
    said = minids("cost", "deepseek-v3", "--json")
    assert said.code == 0
    [system] = json.loads(said.out)["systems"]
    assert system["training"]["flops"] == pytest.approx(3.707e24, rel=1e-3)
    whole = minids("cost")
    assert whole.code == 0 and "5,576,000" in whole.out and "$87,072" in whole.out, whole


def test_figures_are_written(minids, tmp_path):
    said = minids("cost", "deepseek-v3", "tiny", "--figures", str(tmp_path / "f"))
    assert said.code == 0, said
    names = sorted(path.name for path in (tmp_path / "f").iterdir())
    assert names == ["breakdown.png", "kv_bytes.png", "utilisation.png"]


@pytest.mark.parametrize(
    "words",
    [
        "--gpu h9000",
        "--mfu 0",
        "--gpu h20",
        "--dtype fp4",
        "--price x",
        "--context 0",
        "deepseek-v9",
    ],
)
def test_a_mistake_is_one_line_and_code_2(minids, words):
    said = minids("cost", *words.split())
    assert said.code == 2 and said.err.count("minids: error:") == 1, said


def test_one_claim_shows_its_inputs(minids, tmp_path):
    said = minids("claims", "545-percent")
    assert said.code == 0 and "open-infra-index" in said.out and "$87,072" in said.out
    assert minids("claims", "546-percent").code == 2
    assert minids("claims", "--figures", str(tmp_path / "f"), "--json").code == 0
    assert (tmp_path / "f/claims.png").read_bytes().startswith(b"\x89PNG")
    rows = [json.loads(line) for line in minids("claims", "--json").out.splitlines()]
    assert len(rows) == 13 and all(row["inputs"] for row in rows)


def test_a_plan_says_whether_it_fits(minids):
    found = json.loads(minids("plan", "--config", "node", "--json").out)
    assert found["fits"] and found["layout"]["gpus"] == 8
    assert sum(v for k, v in found["memory"].items() if k != "total") == found["memory"]["total"]
    small = json.loads(minids("plan", "--config", "node", "--gpu", "t4", "--json").out)
    assert not small["fits"]
    said = minids("plan", "--config", "deepseek-v3", "--serve", "--gpus", "144", "--gpu", "h800")
    assert said.code == 0 and "ms/token" in said.out


@pytest.mark.parametrize(
    "words",
    ["--gpus 7", "--gpu h9", "--use 2", "--schedule zb9", "--set parallel.expert=3", "--dtype fp5"],
)
def test_an_impossible_plan_is_one_line_and_code_2(minids, words):
    said = minids("plan", *words.split())
    assert said.code == 2 and said.err.count("minids: error:") == 1, said
