"""The examples start what the command line takes; a plan refuses what cannot be laid out."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from minids_cli.main import main, parser_of

EXAMPLES = Path(__file__).parents[2] / "cli/examples"
SCRIPTS = ["node.sh", "two-nodes.sh", "slurm.sbatch", "sky.yaml"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_is_shell_that_gives_torchrun_words_it_knows(name):
    text = (EXAMPLES / name).read_text()
    if name.endswith(".yaml"):
        text = pytest.importorskip("yaml").safe_load(text)["run"]
    assert shutil.which("bash")
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    words = re.search(r"--config (node|cluster) --set parallel\.expert=\S+ --out", text)
    assert words and "-m minids train" in text
    known = parser_of("train")
    known.parse_args([*words[0].replace('"', "").split(), "runs/x"])
    from torch.distributed.run import get_args_parser

    line = re.search(r"torchrun (--.*?)-m minids", text.replace("\\\n", " "), re.DOTALL)
    assert line
    flags = re.sub(r'"?\$\(.*?\):29400"?|"\$\S*?:\$\{.*?\}"', "host:1", line[1])
    flags = re.sub(r'"?\$\{?\w+(:-\w+)?\}?(:\d+)?"?', "2", flags)
    asked = get_args_parser().parse_args([*flags.split(), "-m", "minids", "train"])
    assert asked.max_restarts == 3 and asked.training_script == "minids"


def test_a_plan_of_many_ranks_is_printed_without_reading_the_network(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--config", "cluster", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["ranks"], plan["data_ranks"], plan["pipeline_ranks"]) == (128, 64, 2)
    assert plan["schedule"] == "1f1b" and plan["rank_bytes"] < 80e9
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    ["parallel.expert=3", "parallel.expert=128", "parallel.pipeline=40", "train.batch_size=100"],
)
def test_a_plan_refuses_what_cannot_be_laid_out(change, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--config", "cluster", "--dry-run", "--set", change]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
