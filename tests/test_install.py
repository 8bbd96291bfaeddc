"""A checkout, an editable install, a wheel and an sdist find their data and run."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOOK = (
    "from tpo_graph.files.shipped import data_folder; from tpo_graph.prompts import load_prompts; "
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


RUN = (
    "from tpo_graph import optimize; "
    "from tpo_graph.testing import ScriptedChatModel, prefer_longer; "
    "print(optimize('Hi?', model=ScriptedChatModel(), reward_model=prefer_longer, "
    "depth=1, width=2).stop_reason)"
)
OFFLINE = ROOT / "examples" / "offline" / "models"
NEWER = [f for minor in (14, 13) if (f := shutil.which(f"python3.{minor}"))]
# A version manager's shim may be there without its Python.
NEWEST = next(
    (f for f in NEWER if not subprocess.run([f, "-c", ""], capture_output=True).returncode), None
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ALL = PROJECT["optional-dependencies"]["dev"][0].removeprefix("tpo-graph")


@pytest.mark.slow
@pytest.mark.parametrize("python", [sys.executable, pytest.param(NEWEST, id="newest")])
@pytest.mark.parametrize(
    ("kind", "extras"), [("wheel", ""), ("sdist", ""), ("wheel", "[local]"), ("wheel", ALL)]
)
def test_an_empty_environment(tmp_path: Path, python: str | None, kind: str, extras: str):
    """Needs a package index; with [local], a Python without torch's CPU build takes gigabytes."""
    if python is None:
        pytest.skip("no newer Python here")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def call(*command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    build = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True)
    (built,) = tmp_path.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    assert call(python, "-m", "venv", "env").returncode == 0
    inside = tmp_path / "env" / "bin"
    lock = ROOT / "requirements" / "lock.txt"
    pip = [inside / "python", "-m", "pip", "--quiet", "install", "--constraint", lock]
    done = call(*pip, f"{built}{extras}")
    assert done.returncode == 0, done.stderr

    assert "Usage: tpo" in call(inside / "tpo", "--help").stdout
    done = call(inside / "python", "-c", RUN)
    assert done.stdout == "depth\n", done.stderr
    models = [
        "--model",
        f"local:{OFFLINE}/policy",
        "--reward-model",
        f"local:{OFFLINE}/reward-warm",
    ]
    # The tiny policy has nothing to say to what is not of its world.
    query = (ROOT / "examples" / "offline" / "queries.txt").read_text().splitlines()[0]
    short = ["--depth", "0", "--width", "2", "--seed", "7"]
    done = call(inside / "tpo", "run", *models, *short, "--", query)
    if extras:
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()
    else:
        assert done.returncode == 2
        assert "pip install 'tpo-graph[local]'" in done.stderr
