"""Prompts and migrations are found from a checkout, an editable install and a wheel."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOOK = (
    "from tpo_graph.data import data_folder; from tpo_graph.prompts import load_prompts; "
    "print(load_prompts('tpo').digest, load_prompts('revision').digest, "
    "(data_folder('alembic') / 'env.py').is_file(), data_folder('prompts'))"
)


def look(python: Path, cwd: Path, **environment: str) -> list[str]:
    done = subprocess.run(
        [python, "-c", LOOK],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.fixture(scope="module")
def wheel_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment that holds our wheel, and the libraries of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run([*pip, *build], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    python = folder / "env" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "--python", python, "install", "--no-deps", wheel], check=True)
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    # A plain path entry: packages are found there, but its own .pth files (our editable install)
    # are not read.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_a_wheel_in_a_new_environment(wheel_python: Path, tmp_path: Path):
    *found, where = look(wheel_python, tmp_path)
    assert found == look(Path(sys.executable), ROOT)[:3]
    assert found[2] == "True"
    assert where.endswith("tpo_graph/_data/prompts")
    assert str(ROOT) not in where


def test_a_checkout_that_is_not_installed(wheel_python: Path, tmp_path: Path):
    *found, where = look(wheel_python, tmp_path, PYTHONPATH=str(ROOT))
    assert found[2] == "True"
    assert where == str(ROOT / "prompts")


def test_an_editable_install(tmp_path: Path):
    *found, where = look(Path(sys.executable), tmp_path)
    assert found[2] == "True"
    assert where == str(ROOT / "prompts")
