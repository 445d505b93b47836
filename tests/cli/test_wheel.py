"""The built wheel, installed elsewhere, trains away from the repository."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def pip(*words, cwd):
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("these tests do not lie in a checkout")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a build leaves folders behind: not in the checkout
    source.mkdir()
    names = ("pyproject.toml", "README.md", "LICENSE", "minids", "cli", "lessons")
    for name in names:
        (source / name).symlink_to(ROOT / name) if (ROOT / name).is_file() else copy(name, source)
    pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(source), cwd=folder)
    return next(folder.glob("*.whl"))


def copy(name, source):
    """A folder of the checkout without what building and running left in it."""
    for path in (ROOT / name).rglob("*"):
        inside = path.relative_to(ROOT)
        if path.is_file() and not {"__pycache__", ".ipynb_checkpoints"} & set(inside.parts):
            (source / inside).parent.mkdir(parents=True, exist_ok=True)
            (source / inside).write_bytes(path.read_bytes())


def test_the_wheel_holds_everything_a_run_needs(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for part in ("minids/presets/tiny.toml", "ranks.tiktoken", "minids_cli/main.py", "LICENSE"):
        assert any(name.endswith(part) for name in names), part
    assert any("share/minids/lessons/" in name and name.endswith(".ipynb") for name in names)
    assert not any(name.startswith(("tests", "lessons", "cli/")) for name in names)


def test_it_trains_away_from_the_repository(wheel, tmp_path, minids):
    place = tmp_path / "elsewhere"
    place.mkdir()
    pip("install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel), cwd=tmp_path)
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site"), "OMP_NUM_THREADS": "1"}

    def run(*words):
        return subprocess.run(
            [sys.executable, *words],
            capture_output=True,
            text=True,
            cwd=place,
            env=environment | {"MINIDS_CACHE": str(tmp_path / "cache")},
            timeout=120,
            check=False,
        )

    where = run("-c", "import minids, minids_cli; print(minids.__file__, minids_cli.__file__)")
    assert where.stdout.count(str(tmp_path / "site")) == 2
    done = run("-m", "minids_cli", "train", "--tiny", *minids.micro)
    assert done.returncode == 0, done.stderr
    assert "weights_sha256=" in done.stdout
    assert (place / "runs" / "tiny-001" / "report.md").is_file()
