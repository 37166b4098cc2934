"""The contract finds the mistakes that stores have, and says what it expected."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shared.testing.conversation import ConversationContract
from tests.contract.wrong_stores import WRONG

REPOSITORY = Path(__file__).parents[2]

AUTHORS_TEST = """
import pytest
from shared.testing.conversation import ConversationContract
from tests.contract.wrong_stores import open_wrong

class TestMine(ConversationContract):
    @pytest.fixture
    def store(self, tmp_path):
        return open_wrong({name!r}, tmp_path)
"""


def run_contract(folder: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    """The suite as an author runs it: a project of one file, pytest without settings."""
    (folder / "test_mine.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-p", "shared.testing.plugin", "-q", *options]
    return subprocess.run(
        [*command, "test_mine.py"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def verdict(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest says about all wrong stores, each under the cases that have to notice."""
    classes = [AUTHORS_TEST.format(name=name).replace("TestMine", f"Test{name}") for name in WRONG]
    cases = {case for wrong in WRONG.values() for case in wrong.cases}
    folder = tmp_path_factory.mktemp("wrong")
    return run_contract(folder, "\n".join(classes), "-k", " or ".join(cases)).stdout


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_store_fails(verdict: str, name: str) -> None:
    """Each mistake is found by the case that is about it, and the output says what was promised."""
    for case in WRONG[name].cases:
        assert re.search(rf"FAILED test_mine.py::Test{name}::{case}\b", verdict), verdict
        promise = getattr(ConversationContract, case).__doc__
        assert promise is not None
        assert promise.splitlines()[0].strip() in verdict
    assert "What the contract says" in verdict


def test_an_author_who_forgets_the_store_is_told(tmp_path: Path) -> None:
    """And one who does not say how an entry is damaged sees which tests were left out."""
    text = AUTHORS_TEST.split("    @pytest.fixture", maxsplit=1)[0] + "    pass\n"
    ran = run_contract(tmp_path, text, "-k", "test_appending_nothing_changes_nothing")
    assert "no fixture `store` says which conversation store to test" in ran.stdout

    text = AUTHORS_TEST.format(name="LosesFields")
    ran = run_contract(tmp_path, text, "-rs", "-k", "test_an_unreadable_entry_costs_only_itself")
    assert "no fixture `damage` says how an entry of this store is damaged" in ran.stdout
    assert "1 skipped" in ran.stdout


def test_the_table_shows_stores_and_cases(tmp_path: Path) -> None:
    """What passed, what failed, what was skipped and why; cases of many parameters in one row."""
    text = AUTHORS_TEST.format(name="LosesFields")
    chosen = "unreadable or comes_back or positions_that or appending_nothing"
    run_contract(tmp_path, text, "--contract-table=table.md", "-k", chosen)
    table = (tmp_path / "table.md").read_text()
    assert table.startswith("| | TestMine |\n|---|---|\n")
    assert "| Appending nothing changes nothing | ✓ |" in table
    assert "| A message comes back as it was given | ✗ |" in table
    assert "| Positions that do not continue the run are refused | ✓ |" in table
    assert "| An unreadable entry costs only itself | - (1) |" in table
    assert "1. no fixture `damage` says" in table
    assert "| **cases** | 2 of 4 |" in table
