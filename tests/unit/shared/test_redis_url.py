"""URLs of Redis: the three forms, and what is none of them."""

import pytest

from shared.redis_url import parse_redis_url, with_credentials


class TestForms:
    def test_one_server(self) -> None:
        """With everything that a URL can say."""
        place = parse_redis_url("rediss://me:p%40ss@host:6380/3")
        assert (place.topology, place.hosts, place.is_tls) == ("server", (("host", 6380),), True)
        assert (place.username, place.password, place.database) == ("me", "p@ss", 3)
        assert parse_redis_url("redis://host").hosts == (("host", 6379),)

    def test_sentinels(self) -> None:
        """Several hosts, the name of the primary, and a database."""
        place = parse_redis_url("redis+sentinel://:word@a,b:26380,[::1]:26381/mymaster/2")
        assert place.topology == "sentinel"
        assert place.hosts == (("a", 26379), ("b", 26380), ("::1", 26381))
        assert (place.primary, place.database, place.password) == ("mymaster", 2, "word")

    def test_a_cluster(self) -> None:
        """Some of its nodes."""
        place = parse_redis_url("rediss+cluster://a:1,b:2")
        assert (place.topology, place.hosts, place.is_tls) == (
            "cluster",
            (("a", 1), ("b", 2)),
            True,
        )

    @pytest.mark.parametrize(
        ("url", "reason"),
        [
            ("http://host", "start with"),
            ("redis+sentinel://host", "primary"),
            ("redis+cluster://host/1", "database 0"),
            ("redis+cluster://", "no host"),
            ("redis+cluster://host:secret", "port"),
            ("rediss://host?ssl_cert_reqs=none", "AGENTS_TLS_CA_FILE"),
            ("redis://[secret", "read"),
        ],
    )
    def test_what_is_none_is_refused(self, url: str, reason: str) -> None:
        """With a reason, and without a part of the URL, which could be one of a password."""
        with pytest.raises(ValueError, match=reason) as caught:
            parse_redis_url(url)
        assert "secret" not in str(caught.value)

    def test_a_password_is_not_shown(self) -> None:
        """Not even by the value that has it."""
        assert "word" not in repr(parse_redis_url("redis://:word@host"))


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("redis://host/0", "redis://me:a%2Fb@host/0"),
        ("redis://you@host", "redis://you:a%2Fb@host"),
        ("redis://you:own@host", "redis://you:own@host"),
        ("redis+sentinel://a:1,b:2/name", "redis+sentinel://me:a%2Fb@a:1,b:2/name"),
        ("amqp://host:1//", "amqp://me:a%2Fb@host:1//"),
    ],
)
def test_credentials_are_added_where_there_are_none(url: str, whole: str) -> None:
    """What the URL has goes first; what is added is quoted."""
    assert with_credentials(url, "me", "a/b") == whole
    assert with_credentials(url, None, None) == url
