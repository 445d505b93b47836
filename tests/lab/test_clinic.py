"""The ill runs of lesson 06: each shows its sign, differs from its twin by its fault alone."""

import json
import math
import random

import pytest
import torch

from minids.data import tales
from minids.data.tokenizer import Tokenizer
from minids.errors import UserError
from minids.lab import clinic, clinic_run, evidence
from minids.lab.clinic import ILLNESSES
from minids.lab.clinic_run import Plan
from minids.nn.loss import IGNORE

FEW = 3  # steps: what is wrong before or at the first update shows by then
WARDS = range(3)


def number_of(cause, ward):
    return next(n for n in range(8 * ward, 8 * ward + 8) if clinic.cause_of(n) == cause)


def short(cause, ward):
    return clinic.case(number_of(cause, ward), FEW)


@pytest.fixture(scope="module", autouse=True)
def no_files():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIDS_FAST", "1")
        yield


def test_each_ward_has_each_illness_once_in_an_order_of_its_own():
    orders = [[clinic.cause_of(n) for n in range(8 * w, 8 * w + 8)] for w in range(6)]
    assert all(sorted(order) == sorted(ILLNESSES) for order in orders)
    assert len({tuple(order) for order in orders}) == 6


@pytest.mark.parametrize("number", [-1, 1.0, "1", True, None])
def test_a_case_is_asked_for_by_its_number(number):
    with pytest.raises(UserError, match="case"):
        clinic.case(number)


def test_a_plan_differs_from_the_healthy_one_in_one_field():
    for cause, illness in ILLNESSES.items():
        plan = illness.change(Plan(), random.Random(1))
        assert sum(a != b for a, b in zip(plan, Plan(), strict=True)) == 1, cause


@pytest.mark.parametrize("ward", WARDS)
def test_both_runs_read_the_same_rows_unless_that_is_the_fault(ward):
    for cause in ILLNESSES:
        case = short(cause, ward)
        assert (case.ill.rows == case.twin.rows) == (cause != "data order"), cause


@pytest.mark.parametrize("ward", WARDS)
def test_the_first_steps_already_convict_four_of_them(ward):
    rate, cold = short("learning rate too high", ward), short("no warm-up", ward)
    assert 4 < rate.ill.update[0] / rate.twin.update[0] < 6
    assert rate.ill.lr == rate.twin.lr and rate.ill.loss[0] == rate.twin.loss[0]
    assert cold.ill.lr[0] == 1.0 and cold.twin.lr[0] == pytest.approx(1 / clinic_run.WARMUP)
    assert cold.ill.update[0] > 8 * cold.twin.update[0]
    ratio = short("accumulation", ward)
    assert 1.5 < ratio.ill.grad_norm[0] / ratio.twin.grad_norm[0] < 5
    leak = short("mask leak", ward)
    assert leak.ill.loss[0] != leak.twin.loss[0]


@pytest.mark.parametrize("ward", WARDS)
def test_a_swapped_layout_leaves_the_training_alone(ward):
    case = short("RoPE layout", ward)
    assert case.ill.loss == case.twin.loss and case.ill.update == case.twin.update
    assert case.ill.held_out != case.twin.held_out


@pytest.mark.parametrize("ward", WARDS)
def test_noise_comes_late_and_nothing_differs_before(ward):
    draw = random.Random(ward)
    share, length = ILLNESSES["loss spike"].change(Plan(), draw).junk
    assert 0.5 <= share < 0.7 and length == 3
    case = short("loss spike", ward)
    assert case.ill.loss[0] == case.twin.loss[0] and case.ill.loss[1] > case.twin.loss[1]


def test_repeated_rows_are_convicted_by_the_log_alone():
    plan = Plan(order="repeated")
    rows = clinic_run.texts(0, 40, Tokenizer.shipped("tales"))[0]
    names = [[row.name for row in step] for step in clinic_run.in_order(rows, plan.order, 40)]
    twin = [[row.name for row in step] for step in clinic_run.in_order(rows, "shuffled", 40)]
    assert evidence.repeats(names) > 0.9 and evidence.repeats(twin) == 0.0
    case = short("no warm-up", 0)
    ill = clinic.Case(0, case.ill._replace(rows=names), case.twin._replace(rows=twin), 0.0)
    assert clinic.order_wrong(ill).found and not clinic.order_wrong(case).found


def test_every_token_but_the_first_is_a_target_once_and_the_floor_is_exact():
    tokenizer = Tokenizer.shipped("tales")
    _, held_out, floor = clinic_run.texts(3, 0, tokenizer)
    stories = list(tales.generate(3, clinic_run.HELD_OUT))
    targets = [label for row in held_out for label in row.labels.tolist() if label != IGNORE]
    told = [id for tale in stories for id in [*tokenizer.encode(tale.text), tokenizer.eos]]
    assert targets == told
    assert floor == pytest.approx(-sum(t.log2_prob for t in stories) * math.log(2) / len(told))


def test_the_micro_batches_are_ragged_as_in_fine_tuning():
    rows = clinic_run.texts(0, 1, Tokenizer.shipped("tales"))[0]
    text, questions = clinic_run.micro_batches(rows)
    assert ((questions.labels != IGNORE).sum(-1) == clinic_run.ANSWER).all()
    assert (text.labels != IGNORE).sum() > 20 * (questions.labels != IGNORE).sum()


def test_a_run_is_the_same_twice_and_another_in_another_ward():
    first, again = (clinic_run.run(Plan(), 0, FEW) for _ in range(2))
    assert first == again
    assert clinic_run.run(Plan(), 1, FEW).loss != first.loss


def test_runs_are_kept_read_back_and_made_again_when_broken(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIDS_FAST", "0")
    monkeypatch.setenv("MINIDS_LAB_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(clinic, "known", {})
    made = clinic.curves(Plan(), 0, FEW)
    [path] = (tmp_path / clinic.FOLDER).glob("*.json")
    clinic.known.clear()
    monkeypatch.setattr(clinic, "one_thread", lambda *_: pytest.fail("it should be read"))
    kept = clinic.curves(Plan(), 0, FEW)
    assert kept.loss == made.loss and kept.rows == made.rows and kept.sample == made.sample
    for text in ("{", "[]", json.dumps(made._replace(loss=[])._asdict()), "{}"):
        path.write_text(text, encoding="utf-8")
        assert clinic.stored(path.stem, FEW) is None
    assert clinic.fingerprint(Plan(), 0, FEW) != clinic.fingerprint(Plan(lr=1.0), 0, FEW)


def test_unattended_runs_leave_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(clinic, "known", {})
    clinic.curves(Plan(), 0, FEW)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIDS_FAST", "0")
    monkeypatch.chdir(tmp_path)
    (tmp_path / clinic.FOLDER).write_text("a file of that name")
    monkeypatch.setattr(clinic, "known", {})
    monkeypatch.setattr(clinic.progress, "warnings", [])
    monkeypatch.setattr(clinic.progress, "said", set())
    assert clinic.curves(Plan(), 0, FEW).loss
    assert "not stored" in clinic.progress.warnings[0]


def test_only_the_true_cause_is_accepted(capsys):
    for number in (0, 5):
        right = [c for c in ILLNESSES if clinic.diagnose(number, c, FEW).right]
        assert right == [clinic.cause_of(number)]
    assert "The evidence" in capsys.readouterr().out
    assert not clinic.diagnose(0, None, FEW).right
    assert "no diagnosis yet" in capsys.readouterr().out
    with pytest.raises(UserError, match="mask leak"):
        clinic.diagnose(0, "bad luck", FEW)


def test_threads_and_the_library_are_as_before_a_run():
    threads, attend = torch.get_num_threads(), clinic_run.mla.attend
    clinic.one_thread(ILLNESSES["mask leak"].change(Plan(), random.Random(0)), 0, 1)
    assert torch.get_num_threads() == threads and clinic_run.mla.attend is attend


@pytest.mark.parametrize("cause", list(ILLNESSES))
def test_a_whole_run_shows_its_sign(cause):
    case = clinic.case(number_of(cause, 0), clinic.STEPS)
    sign = ILLNESSES[cause].sign(case)
    assert sign.found, sign.says
    falsely = [c for c in ILLNESSES if c != cause and ILLNESSES[c].sign(case).found]
    assert set(falsely) <= {"loss spike"}, "a noisy gradient spikes; all other signs are exclusive"


def test_the_healthy_twin_shows_no_sign():
    twin = clinic.case(0, clinic.STEPS).twin
    case = clinic.Case(0, twin, twin, 0.5)
    assert [cause for cause, illness in ILLNESSES.items() if illness.sign(case).found] == []
