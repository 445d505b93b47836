"""What scripts may rely on: commands, flags, fields; and that help needs no torch."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from minids.config import SECTIONS
from minids_cli.main import COMMANDS, parser_of

FLAGS = {
    "train": "--tiny --config --set --data --seed --out --resume --minutes --inject --allow-change"
    " --dry-run --plain",
    "config": "--set",
    "data": "--tiny --config --set --data --seed --to",
    "doctor": "--probe",
    "lab": "--folder --no-browser --no-lab --dry-run",
    "serve": "--port --host --token --template",
    "grade": "--lesson --csv --junit --feedback --report --seed --timeout --memory --jobs",
}
FROZEN = Path(__file__).parent / "fields.txt"


@pytest.mark.parametrize("command", sorted(FLAGS))
def test_flags_are_those_promised(command):
    found = {f for f in parser_of(command)._option_string_actions if f.startswith("--")}
    assert found == {*FLAGS[command].split(), "--help", "--json", "--debug"}


def test_config_fields_are_those_promised():
    fields = [f"{s}.{f.name}" for s, kind in SECTIONS.items() for f in dataclasses.fields(kind)]
    assert fields == FROZEN.read_text().split(), (
        "a changed field breaks people's files: say so, then freeze"
    )


def test_every_command_explains_itself(minids):
    overview = minids("--help")
    assert overview.code == 0
    for command in COMMANDS:
        assert command in overview.out
        said = minids(command, "--help")
        assert said.code == 0 and "exit codes" in said.out, said


def test_help_imports_neither_torch_nor_rich():
    code = (
        "import sys; from minids_cli.main import main; main(['--help']); "
        "print(sorted({'torch', 'rich', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_config_error_comes_before_torch():
    code = (
        "import sys; from minids_cli.main import main; "
        "main(['train', '--set', 'model.hidden_size=0']); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_completion_names_every_command(minids):
    for shell in ("bash", "zsh", "fish"):
        said = minids("completion", shell)
        assert said.code == 0 and all(command in said.out for command in COMMANDS)


def test_config_show_reads_back(minids):
    said = minids("config", "show", "tiny", "--json", "--set", "train.lr=0.5")
    assert said.json()[0]["train"]["lr"] == 0.5


def test_config_diff_finds_the_difference(minids):
    said = minids("config", "diff", "tiny", "deepseek-v3", "--json")
    assert said.json()[0]["model.num_hidden_layers"] == [4, 61]


def test_data_show_tells_the_floor(minids):
    said = minids("data", "show", "--json", "--set", "data.documents=500")
    assert 0.2 < said.json()[0]["floor_bits_per_byte"] < 0.5


def test_doctor_answers(minids):
    facts = minids("doctor", "--json").json()[0]
    assert facts["cores"] >= 1 and facts["float32_gflops_per_core"] > 0
