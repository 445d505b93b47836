"""`minids sample --speculative` from outside."""


def test_drafts_change_no_greedy_text_and_json_tells_their_worth(minids):
    said = minids("train", "--tiny", micro=True)
    assert said.code == 0, said
    args = ["sample", "tiny-001", "--json", "--temperature", "0", "--max-new-tokens", "20"]
    (plain,), said = minids(*args).json(), minids(*args, "--speculative")
    assert said.code == 0, said
    (fast,) = said.json()
    assert fast["token_ids"] == plain["token_ids"] and fast["stop"] == plain["stop"]
    assert "acceptance" not in plain
    assert fast["acceptance"] == fast["accepted"] / fast["drafted"]
    assert len(fast["token_ids"]) == fast["passes"] + fast["accepted"]
    words = minids(*args[:2], "--speculative", "--max-new-tokens", "9")
    assert words.code == 0 and "drafts accepted" in words.err and "drafts" not in words.out


def test_the_cache_is_needed(refused):
    assert "needs the cache" in refused("sample", "any", "--speculative", "--no-cache")


def test_a_run_without_modules_is_refused_in_one_line(minids):
    said = minids("train", "--tiny", "--set", "model.num_nextn_predict_layers=0", micro=True)
    assert said.code == 0, said
    said = minids("sample", "tiny-001", "--speculative")
    assert said.code == 2 and not said.out
    assert len(said.err.splitlines()) == 1 and "has no MTP module" in said.err
