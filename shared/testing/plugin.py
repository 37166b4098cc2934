"""A pytest plugin: what the contract suites need besides the store under test.

Enable it with ``-p shared.testing.plugin`` or ``pytest_plugins = ["shared.testing.plugin"]``. With
``--contract-table=FILE`` it writes which store passed which case, as a table in Markdown.
"""

from collections.abc import Awaitable, Callable, Generator
from pathlib import Path

import pytest

from shared.conversation.protocol import ConversationStore
from shared.testing.table import ContractTable

Damage = Callable[[str], Awaitable[None]]
"""Puts an entry behind the last one of a conversation that no reader understands."""

TABLE = "--contract-table"
CASE = "contract_case"
"""Under this name each report says which store and which case it is about."""

pytest.register_assert_rewrite("shared.testing.conversation")


@pytest.fixture
def store() -> ConversationStore:
    """The store under test, new and empty; each test class of a contract has its own."""
    pytest.fail(
        "no fixture `store` says which conversation store to test; define one in the class that "
        "subclasses the contract"
    )


@pytest.fixture
def elsewhere(store: ConversationStore) -> ConversationStore:
    """The conversations of `store` as another process sees them; override it where one can."""
    return store


@pytest.fixture
def damage() -> Damage:
    """How an entry of `store` is damaged; override it, or the tests of damage are skipped."""
    pytest.skip("no fixture `damage` says how an entry of this store is damaged")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option for the table."""
    parser.addoption(
        TABLE, type=Path, metavar="FILE", help="write stores x cases of the contract as Markdown"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Collect for the table, where one is asked for."""
    path = config.getoption(TABLE)
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_TableWriter(ContractTable(), path))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say what a store promises where it does not keep it."""
    report = yield
    case = _case_of(item)
    if case is not None:
        report.user_properties.append((CASE, case))
        promise = getattr(getattr(item, "function", None), "__doc__", None)
        if report.failed and promise:
            report.sections.append(("What the contract says", f"{promise.strip()}\n"))
    return report


def _case_of(item: pytest.Item) -> list[str] | None:
    """The store and the case that a test is about; None where it is of no contract."""
    kind = getattr(item, "cls", None)
    function = getattr(item, "function", None)
    if kind is None or function is None or not function.__module__.startswith("shared.testing."):
        return None
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    chosen = parameters.get("stores")
    return [chosen if isinstance(chosen, str) else kind.__name__, function.__name__]


class _TableWriter:
    """Takes every report, also of other processes, and writes the table at the end."""

    def __init__(self, table: ContractTable, path: Path) -> None:
        self._table = table
        self._path = path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == CASE and isinstance(value, list):
                store, case = value
                reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
                self._table.add(store, case, report.outcome, reason=reason)

    def pytest_sessionfinish(self) -> None:
        self._path.write_text(self._table.markdown(), encoding="utf-8")
