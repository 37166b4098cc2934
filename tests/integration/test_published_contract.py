"""An author's project: the wheel is installed, and the contract runs over a store of their own."""

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.services import missing

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300)]

REPOSITORY = Path(__file__).parents[2]

PROJECT = """
[build-system]
requires = []
build-backend = "none"

[tool.pytest.ini_options]
addopts = ["-p", "shared.testing.plugin"]
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), REPOSITORY],
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        missing(f"no wheel can be built here: {built.stderr[-300:]}")
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """An environment with the wheel in it; the libraries that it needs are those of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel], check=True
    )
    paths = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    # Behind its own packages, and without the way in which this repository is installed there.
    (Path(paths.stdout.strip()) / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    return python


def test_an_author_runs_the_contract_in_a_project_of_their_own(
    tmp_path: Path, python: Path
) -> None:
    """The documents' steps, from the wheel alone: all cases pass, and the scheme is known."""
    package = tmp_path / "my_store"
    package.mkdir()
    (package / "__init__.py").touch()
    for name in ("record.py", "store.py"):
        text = (REPOSITORY / "examples" / "custom_store" / name).read_text()
        (package / name).write_text(text.replace("examples.custom_store", "my_store"))
    test = (REPOSITORY / "examples" / "custom_store" / "test_store.py").read_text()
    (tmp_path / "test_store.py").write_text(test.replace("examples.custom_store", "my_store"))
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    # What pip makes of an entry point in the author's pyproject.toml.
    metadata = tmp_path / "my_store-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-store\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[celery_agents.conversations]\ndbm = my_store.store:open_url\n"
    )

    ran = run(python, "-m", "pytest", "-q", "--contract-table=table.md", folder=tmp_path)
    assert ran.returncode == 0, ran.stdout
    assert " passed" in ran.stdout
    assert "skipped" not in ran.stdout
    table = (tmp_path / "table.md").read_text()
    assert "TestDbmConversationStore" in table
    assert "Skipped" not in table

    program = """
import shared, sys
from shared.conversation.url import conversation_from_url
print(shared.__file__)
print(type(conversation_from_url("dbm:chat")).__module__)
"""
    shown = run(python, "-c", program, folder=tmp_path).stdout.split()
    assert Path(shown[0]).is_relative_to(python.parents[1]), "that is not the wheel"
    assert shown[1] == "my_store.store"


def run(python: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    shutil.rmtree(folder / ".hypothesis", ignore_errors=True)
    return subprocess.run(
        [python, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=200
    )
