"""Settings: from the environment, checked when built, silent about secrets."""

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from shared.settings import Settings

PASSWORD = "s3cret"
URL = f"redis://user:{PASSWORD}@host:6379/0"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine sets is not what is tested."""
    for name in [name for name in os.environ if name.startswith("AGENTS_")]:
        monkeypatch.delenv(name)


class TestSources:
    def test_nothing_has_to_be_set(self) -> None:
        """The defaults are a set-up that works on one machine."""
        settings = Settings()
        assert settings.effective_broker_url == "redis://localhost:6379/0"
        assert settings.heartbeat_s * 3 <= settings.lease_s
        assert settings.history_size == 20

    def test_the_environment_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Under the prefix, with types; arguments go before it; unknown names are ignored."""
        monkeypatch.setenv("AGENTS_LEASE_S", "12")
        monkeypatch.setenv("AGENTS_QUEUE_PER_AGENT", "true")
        monkeypatch.setenv("AGENTS_UNHEARD_OF", "1")
        settings = Settings(concurrency=3)
        assert (settings.lease_s, settings.queue_per_agent) == (12.0, True)
        assert settings.concurrency == 3
        assert Settings(lease_s=9).lease_s == 9

    def test_they_do_not_change(self) -> None:
        """Values are frozen."""
        with pytest.raises(ValueError, match="frozen"):
            Settings().lease_s = 1  # type: ignore[misc] # that is the point

    def test_the_broker_may_be_another_place(self) -> None:
        """Unset, it is the Redis that keeps the runs."""
        assert Settings(redis_url=SecretStr(URL)).effective_broker_url == URL
        empty = Settings(redis_url=SecretStr(URL), broker_url=SecretStr(""))
        assert empty.effective_broker_url == URL
        broker = Settings(redis_url=SecretStr(URL), broker_url=SecretStr("amqp://host"))
        assert broker.effective_broker_url == "amqp://host"

    def test_queues_may_be_one_or_one_for_each_agent(self) -> None:
        """Both start with the key prefix."""
        assert Settings(key_prefix="p").queue_of("clerk") == "p"
        assert Settings(key_prefix="p", queue_per_agent=True).queue_of("clerk") == "p.clerk"


class TestChecks:
    def test_a_heartbeat_has_to_fit_three_times_into_a_lease(self) -> None:
        """The error names both variables, both values and the consequence."""
        with pytest.raises(ValueError, match="third") as caught:
            Settings(lease_s=3, heartbeat_s=2)
        for word in ("AGENTS_HEARTBEAT_S (2.0)", "AGENTS_LEASE_S (3.0)", "runs"):
            assert word in str(caught.value)

    @pytest.mark.parametrize("url", ["kafka://host", "host:5672", "http://host"])
    def test_a_broker_is_one_that_is_known(self, url: str) -> None:
        """Any other would fail when a first run is submitted, in the words of a library."""
        with pytest.raises(ValueError, match=r"broker_url\n.*redis://.*amqp://"):
            Settings(broker_url=SecretStr(url))

    def test_a_cluster_needs_a_broker_beside_it(self) -> None:
        """Celery has no transport for one; the error names the variable that is missing."""
        url = SecretStr("redis+cluster://host:6379")
        with pytest.raises(ValueError, match="AGENTS_BROKER_URL is missing"):
            Settings(redis_url=url)
        settings = Settings(redis_url=url, broker_url=SecretStr("redis://host"))
        assert settings.effective_broker_url == "redis://host"

    def test_tls_is_all_or_nothing(self, tmp_path: Path) -> None:
        """A certificate goes with its key, files exist, and a URL has to be one over TLS."""
        file = tmp_path / "file.pem"
        file.touch()
        secure = SecretStr("rediss://host")
        with pytest.raises(ValueError, match="AGENTS_TLS_KEY_FILE"):
            Settings(redis_url=secure, tls_cert_file=file)
        with pytest.raises(ValueError, match="rediss://"):
            Settings(tls_ca_file=file)
        with pytest.raises(ValueError, match="tls_ca_file"):
            Settings(redis_url=secure, tls_ca_file=tmp_path / "missing.pem")
        assert Settings(redis_url=secure, tls_ca_file=file).tls_check_hostname

    def test_replicas_are_waited_for_no_longer_than_for_an_answer(self) -> None:
        """The connection would be given up before WAIT could answer."""
        with pytest.raises(ValueError, match="AGENTS_REDIS_WAIT_TIMEOUT_S"):
            Settings(redis_wait_replicas=1, redis_wait_timeout_s=5, redis_timeout_s=5)

    @pytest.mark.parametrize("prefix", ["", "{a}", "a b", "a/b", "-a", "x" * 201])
    def test_a_key_prefix_is_an_id(self, prefix: str) -> None:
        """Braces in it would move keys to other hash slots; the error names the variable."""
        with pytest.raises(ValueError, match="AGENTS_KEY_PREFIX"):
            Settings(key_prefix=prefix)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("lease_s", 0),
            ("sweep_s", -1),
            ("pickup_s", 0),
            ("processes", -1),
            ("concurrency", 0),
            ("max_rounds", 0),
            ("history_size", 0),
            ("run_ttl_s", 0),
            ("max_crashes", 0),
            ("log_level", "loud"),
            ("log_format", "xml"),
        ],
    )
    def test_what_cannot_work_is_refused_by_name(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: object
    ) -> None:
        """Whether it comes from the environment or as an argument."""
        with pytest.raises(ValueError, match=name):
            Settings.model_validate({name: value})
        monkeypatch.setenv(f"AGENTS_{name.upper()}", str(value))
        with pytest.raises(ValueError, match=name):
            Settings()

    def test_every_setting_says_what_it_is_for(self) -> None:
        """The documentation is made from the descriptions."""
        for name, field in Settings.model_fields.items():
            assert field.description, name


class TestSecrets:
    def test_passwords_are_not_shown(self) -> None:
        """Neither printed, nor formatted, nor dumped for a log."""
        settings = Settings(redis_url=SecretStr(URL), broker_url=SecretStr(URL))
        for shown in (repr(settings), str(settings), f"{settings.model_dump()}"):
            assert PASSWORD not in shown
        assert PASSWORD not in settings.model_dump_json()

    def test_passwords_apart_from_urls_are_not_shown(self) -> None:
        """They are used where a URL has none."""
        settings = Settings(
            redis_username="me",
            redis_password=SecretStr(PASSWORD),
            sentinel_password=SecretStr(PASSWORD),
            broker_password=SecretStr(PASSWORD),
        )
        assert PASSWORD not in repr(settings) + settings.model_dump_json()
        assert settings.effective_redis_url == f"redis://me:{PASSWORD}@localhost:6379/0"
        assert settings.effective_broker_url == settings.effective_redis_url

    def test_passwords_are_not_shown_in_errors(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A wrong setting beside a password does not print the password."""
        monkeypatch.setenv("AGENTS_REDIS_URL", URL)
        with pytest.raises(ValueError, match="third") as caught:
            Settings(lease_s=3, heartbeat_s=2)
        assert PASSWORD not in str(caught.value)
        assert PASSWORD not in repr(caught.value)
