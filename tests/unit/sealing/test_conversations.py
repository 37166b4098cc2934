"""Wrapped conversations: what comes back, what never does, and in which order wrappers go."""

import gzip
import json
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings

from shared.conversation.memory import MemoryConversationStore
from shared.conversation.popping import pop_message
from shared.conversation.protocol import ConversationStore, Writer
from shared.encryption_key import EncryptionKey
from shared.errors import (
    ConfigurationError,
    SealError,
    SealKeyError,
    SealLimitError,
    TamperedError,
    UnsealedError,
    UnstorableError,
)
from shared.message import Message, MessageKind, Role, Sealed, user_draft
from shared.sealing import compression
from shared.sealing.compressed import CompressedConversations
from shared.sealing.encrypted import EncryptedConversations
from shared.sealing.guard import GuardedConversations
from shared.sealing.key_ring import KeyRing
from shared.sealing.message_body import body_of, shell_of, with_seal
from shared.sealing.repack import as_sealed
from shared.sealing.wrapper import innermost
from shared.testing.conversation.value import imported, message, messages, texts
from tests.unit.sealing.scene import MAX_BYTES, alter, encrypted, key, memory_store, ring, stored
from tests.unit.shared.test_codec import messages as any_message

LONG = "the same words " * 200


def compressed(store: ConversationStore) -> ConversationStore:
    return GuardedConversations(CompressedConversations(store, max_bytes=MAX_BYTES))


def both(store: ConversationStore) -> ConversationStore:
    below = EncryptedConversations(store, ring("a"))
    return GuardedConversations(CompressedConversations(below, max_bytes=MAX_BYTES))


class TestRoundTrip:
    @settings(
        max_examples=200,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(given_message=any_message)
    @pytest.mark.parametrize("wrap", [compressed, both])
    async def test_any_message_comes_back(
        self, wrap: Callable[[ConversationStore], ConversationStore], given_message: Message
    ) -> None:
        """Every field, whatever it holds; and only what everybody may know is readable."""
        below = memory_store()
        [cursor] = await wrap(below).append("room", [given_message])
        assert await wrap(below).list_messages("room") == [given_message.at(cursor)]
        if wrap is both:
            body = json.loads(stored(below, "room")[0])
            readable = {"role", "kind", "version", "id", "run_id", "position", "created_at"}
            assert body.keys() - readable == {"sealed"}
            with pytest.raises(SealError):
                await encrypted(below, KeyRing([key("a", fill=5)])).list_messages("room")

    async def test_a_short_message_stays_as_it_is(self) -> None:
        """It would grow; a long one shrinks. Both are read, and are encrypted if asked for."""
        below = memory_store()
        await compressed(below).append("room", [imported("hi"), imported(LONG)])
        short, long = (json.loads(entry) for entry in stored(below, "room"))
        assert "sealed" not in short
        assert long["sealed"]["layers"] == ["zstd"]
        assert "content" not in long
        assert len(stored(below, "room")[1]) < len(LONG) / 5
        assert texts(await compressed(below).list_messages("room")) == ["hi", LONG]

    async def test_compression_comes_before_encryption(self) -> None:
        """The other way round it would be for nothing."""
        below = memory_store()
        await both(below).append("room", [imported(LONG)])
        [entry] = stored(below, "room")
        assert json.loads(entry)["sealed"]["layers"] == ["zstd", "aes-256-gcm"]
        assert len(entry) < len(LONG) / 5

    async def test_who_writes_without_compression_reads_it(self) -> None:
        """So it can be switched off, and on one process after the other."""
        below = memory_store()
        await compressed(below).append("room", [imported(LONG)])
        idle = CompressedConversations(below, max_bytes=MAX_BYTES, writes=False)
        await idle.append("room", [imported(LONG)])
        assert texts(await idle.list_messages("room")) == [LONG, LONG]
        assert "sealed" not in json.loads(stored(below, "room")[1])

    async def test_gzip_is_read(self) -> None:
        """As other systems write it."""
        below, given_message = memory_store(), imported(LONG)
        packed = as_sealed(["gzip"], gzip.compress(body_of(given_message)))
        await below.append("room", [with_seal(shell_of(given_message), packed)])
        assert texts(await compressed(below).list_messages("room")) == [LONG]

    async def test_what_says_nothing_about_content_passes_through(self) -> None:
        """Cursors, claims, positions and removals are those of the store."""
        below = memory_store()
        store = both(below)
        await store.append("room", messages("run-1", range(3)), writer=Writer("run-1", 1))
        claim = await store.claim("room", Writer("run-1", 2), limit=5)
        assert [each.position for each in claim.own] == [0, 1, 2]
        assert claim.next_position == 3
        popped = await pop_message(store, "room")
        assert popped is not None
        assert popped.text == "run-1.2"
        assert (store.topic("room"), store.is_distributed) == (below.topic("room"), False)
        assert store.notifications is below.notifications
        assert innermost(store) is below


class TestOrder:
    @pytest.mark.parametrize(
        ("build", "says"),
        [
            (
                lambda: EncryptedConversations(compressed(memory_store()), ring("a")),
                "has to lie below",
            ),
            (
                lambda: EncryptedConversations(
                    CompressedConversations(memory_store(), max_bytes=9), ring("a")
                ),
                "is compressed and then encrypted",
            ),
            (
                lambda: EncryptedConversations(
                    EncryptedConversations(memory_store(), ring("a")), ring("b")
                ),
                "wrapped in encryption already",
            ),
            (
                lambda: CompressedConversations(
                    CompressedConversations(memory_store(), max_bytes=9), max_bytes=9
                ),
                "wrapped in compression already",
            ),
            (lambda: GuardedConversations(both(memory_store())), "wrapped in a guard already"),
            (
                lambda: CompressedConversations(GuardedConversations(memory_store()), max_bytes=9),
                "has to lie below GuardedConversations",
            ),
        ],
    )
    def test_a_wrong_order_is_refused_when_built(
        self, build: Callable[[], object], says: str
    ) -> None:
        """With an error that says how it goes."""
        with pytest.raises(ConfigurationError, match=says):
            build()

    def test_the_right_one_is_not(self) -> None:
        """Each alone, and all of them."""
        compressed(memory_store())
        GuardedConversations(EncryptedConversations(memory_store(), ring("a")))
        both(memory_store())


class TestGuard:
    async def test_a_sealed_message_never_leaves_unopened(self) -> None:
        """Whoever has no keys is told what to set, by everything that would return the message."""
        below = memory_store()
        await both(below).append("room", [message("run-1", 0, "secret")], writer=Writer("run-1", 1))
        keyless = compressed(below)
        for read in (
            keyless.list_messages("room"),
            keyless.claim("room", Writer("run-1", 2), limit=1),
            keyless.claim("room", Writer("run-2", 3), limit=1),
            pop_message(keyless, "room"),
        ):
            with pytest.raises(SealKeyError, match=r"Set AGENTS_ENCRYPTION_KEYS.*'a'") as caught:
                await read
            assert caught.value.key_id == "a"
        assert await keyless.count("room") == 1, "nothing was removed"

    async def test_an_unknown_seal_says_so(self) -> None:
        """A layer of a later release, say."""
        below = memory_store()
        shell = shell_of(imported("x"))
        await below.append("room", [with_seal(shell, Sealed(layers=("lzma",), data="AAAA"))])
        with pytest.raises(SealError, match=r"'lzma'.*update"):
            await compressed(below).list_messages("room")

    @pytest.mark.parametrize("wrap", [compressed, both])
    async def test_a_sealed_message_is_not_written_elsewhere(
        self, wrap: Callable[[ConversationStore], ConversationStore]
    ) -> None:
        """It is bound to its place: a copy of it could never be opened."""
        below = memory_store()
        await both(below).append("room", [imported("x")])
        with pytest.raises(UnstorableError, match="sealed, for the place"):
            await wrap(memory_store()).append("other", await below.list_messages("room"))
        with pytest.raises(UnstorableError, match="encrypted already"):
            await EncryptedConversations(memory_store(), ring("a")).append(
                "other", await below.list_messages("room")
            )


class TestPlaintext:
    async def test_it_is_refused_where_there_are_keys(self) -> None:
        """Compressed or not; whoever can write to the store could have put it there."""
        below = memory_store()
        await compressed(below).append("short", [imported("hi")])
        await compressed(below).append("long", [imported(LONG)])
        for name in ("short", "long"):
            with pytest.raises(UnsealedError, match="AGENTS_PLAINTEXT"):
                await both(below).list_messages(name)

    async def test_it_is_read_if_asked_for(self) -> None:
        """Between what is encrypted, which has to be whole all the same."""
        below = memory_store()
        await compressed(below).append("room", [imported("hi"), imported(LONG)])
        await both(below).append("room", [imported("new")])
        lenient = encrypted(below, ring("a"), plaintext="read")
        assert texts(await lenient.list_messages("room")) == ["hi", LONG, "new"]
        alter(below, "room", 2, lambda entry: entry.replace('"data":"', '"data":"AAAA'))
        with pytest.raises(TamperedError):
            await lenient.list_messages("room")

    async def test_encryption_is_turned_on_without_a_gap(self) -> None:
        """First all can read it, then all write it, then nothing else is believed."""
        below = memory_store()
        keyless = compressed(below)
        prepared = encrypted(below, ring("a"), plaintext="write")
        lenient = encrypted(below, ring("a"), plaintext="read")
        strict = encrypted(below, ring("a"))
        await keyless.append("room", [imported("1")])
        await prepared.append("room", [imported("2")])
        assert texts(await keyless.list_messages("room")) == ["1", "2"]
        await lenient.append("room", [imported("3")])
        assert texts(await prepared.list_messages("room")) == ["1", "2", "3"]
        assert texts(await lenient.list_messages("room")) == ["1", "2", "3"]
        with pytest.raises(SealKeyError):
            await keyless.list_messages("room")
        with pytest.raises(UnsealedError):
            await strict.list_messages("room")


class TestBombs:
    @pytest.mark.parametrize("layer", ["zstd", "gzip"])
    @pytest.mark.parametrize("says_length", [True, False])
    async def test_what_would_become_too_large_is_refused(
        self, layer: str, says_length: bool
    ) -> None:
        """Before it is: ten gigabytes in some kilobytes take no memory to refuse."""
        zstd = compression.load_zstd()
        if layer == "gzip":
            packed = gzip.compress(bytes(50 * MAX_BYTES))
        else:
            parameter = zstd.CompressionParameter.content_size_flag
            packed = zstd.compress(bytes(50 * MAX_BYTES), options={parameter: int(says_length)})
        with pytest.raises(SealLimitError, match="AGENTS_MAX_MESSAGE_BYTES"):
            compression.decompress(layer, packed, limit=MAX_BYTES, where="it")

    @pytest.mark.parametrize("layer", ["zstd", "gzip"])
    def test_the_limit_is_exact(self, layer: str) -> None:
        """What has just its size is read."""
        pack = compression.compress if layer == "zstd" else gzip.compress
        data = bytes(1000)
        unpacked = compression.decompress(layer, pack(data), limit=1000, where="it")
        assert unpacked == data
        with pytest.raises(SealLimitError):
            compression.decompress(layer, pack(data), limit=999, where="it")

    @pytest.mark.parametrize("layer", ["zstd", "gzip"])
    def test_what_is_not_whole_is_refused(self, layer: str) -> None:
        """Cut, with something behind it, several in one, or nothing of the kind."""
        pack = compression.compress if layer == "zstd" else gzip.compress
        packed = pack(b"words " * 99)
        cut = [packed[:length] for length in range(len(packed))]
        for broken in (*cut, packed + b"x", packed + packed, b"x" * 50):
            with pytest.raises(TamperedError):
                compression.decompress(layer, broken, limit=10_000, where="it")

    def test_a_frame_that_wants_a_huge_window_is_refused(self) -> None:
        """The window is memory that a decoder takes before a byte comes out."""
        zstd = compression.load_zstd()
        options = {
            zstd.CompressionParameter.window_log: 27,
            zstd.CompressionParameter.content_size_flag: 0,
        }
        compressor = zstd.ZstdCompressor(options=options)
        packed = compressor.compress(b"x" * 1000) + compressor.flush()
        with pytest.raises(TamperedError):
            compression.decompress("zstd", packed, limit=10_000, where="it")

    async def test_what_is_too_large_to_be_read_again_is_not_compressed(self) -> None:
        """So nothing that was written is ever unreadable to who wrote it."""
        below = memory_store()
        store = CompressedConversations(below, max_bytes=1_000)
        await store.append("room", [imported(LONG)])
        assert "sealed" not in json.loads(stored(below, "room")[0])
        assert texts(await store.list_messages("room")) == [LONG]


@pytest.fixture
async def room() -> MemoryConversationStore:
    """Three messages of a run, encrypted, and one elsewhere."""
    below = memory_store()
    store = both(below)
    await store.append("room", messages("run-1", range(3)), writer=Writer("run-1", 1))
    await store.append("elsewhere", [message("run-1", 1, "elsewhere")])
    return below


async def refused(below: MemoryConversationStore, name: str = "room") -> None:
    """Reading raises, and removes nothing."""
    before = stored(below, name)
    with pytest.raises(SealError):
        await both(below).list_messages(name)
    assert stored(below, name) == before


class TestTampering:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("id", "run-1.7"),
            ("run_id", "run-2"),
            ("run_id", None),
            ("position", 7),
            ("role", "assistant"),
            ("kind", "error"),
            ("created_at", "2020-01-01T00:00:00Z"),
            ("version", 1),
        ],
    )
    async def test_no_readable_field_can_be_changed(
        self, room: MemoryConversationStore, field: str, value: object
    ) -> None:
        """Each is bound to what is sealed."""
        alter(room, "room", 1, lambda entry: json.dumps(json.loads(entry) | {field: value}))
        await refused(room)

    async def test_every_region_of_the_data_counts(self, room: MemoryConversationStore) -> None:
        """Nonce, text and tag, character by character."""
        original = stored(room, "room")[1]
        body = json.loads(original)
        data = body["sealed"]["data"]
        for place in range(len(data)):
            other = "B" if data[place] == "A" else "A"
            body["sealed"]["data"] = data[:place] + other + data[place + 1 :]
            alter(room, "room", 1, lambda _: json.dumps(body))
            await refused(room)
        alter(room, "room", 1, lambda _: original)
        assert len(await both(room).list_messages("room")) == 3

    async def test_two_messages_cannot_be_exchanged(self, room: MemoryConversationStore) -> None:
        """Neither what they say, nor, for who goes on with the run, their order."""
        first, second = (json.loads(entry) for entry in stored(room, "room")[:2])
        alter(room, "room", 0, lambda _: json.dumps(first | {"sealed": second["sealed"]}))
        await refused(room)
        alter(room, "room", 0, lambda _: json.dumps(second))
        alter(room, "room", 1, lambda _: json.dumps(first))
        with pytest.raises(TamperedError, match="order"):
            await both(room).claim("room", Writer("run-1", 2), limit=5)

    async def test_a_message_cannot_be_moved(self, room: MemoryConversationStore) -> None:
        """Into another conversation, though run, position, role and kind are the same."""
        moved = stored(room, "elsewhere")[0]
        alter(room, "room", 1, lambda _: moved)
        await refused(room)

    async def test_what_a_message_said_before_cannot_be_put_back(
        self, room: MemoryConversationStore
    ) -> None:
        """A run that was rolled back wrote something else at the same place."""
        before = json.loads(stored(room, "room")[1])
        await both(room).retract("room", Writer("run-1", 2))
        await both(room).append("room", messages("run-1", range(3)), writer=Writer("run-1", 3))
        now = json.loads(stored(room, "room")[1])
        assert now["id"] == before["id"]
        alter(room, "room", 1, lambda _: json.dumps(now | {"sealed": before["sealed"]}))
        await refused(room)

    async def test_the_seal_cannot_be_stripped(self, room: MemoryConversationStore) -> None:
        """A message in clear is nobody's; neither is one with words beside its seal."""
        body = json.loads(stored(room, "room")[1])
        seal = body.pop("sealed")
        alter(room, "room", 1, lambda _: json.dumps(body | {"content": "forged"}))
        await refused(room)
        alter(room, "room", 1, lambda _: json.dumps(body | {"content": "forged", "sealed": seal}))
        assert texts(await both(room).list_messages("room"))[1] == "run-1.1"

    @pytest.mark.parametrize(
        "layers", [[], ["zstd"], ["gzip"], ["aes-256-gcm", "zstd"], ["aes-256-gcm"] * 2, ["none"]]
    )
    async def test_layers_cannot_be_changed(
        self, room: MemoryConversationStore, layers: list[str]
    ) -> None:
        """Not one of them, and not their order."""
        body = json.loads(stored(room, "room")[1])
        body["sealed"]["layers"] = layers
        alter(room, "room", 1, lambda _: json.dumps(body))
        await refused(room)

    async def test_a_key_of_the_same_name_opens_nothing(
        self, room: MemoryConversationStore
    ) -> None:
        """As when somebody made a new key and gave it the old id."""
        wrong = encrypted(room, KeyRing([EncryptionKey("a", bytes(range(32)))]))
        with pytest.raises(TamperedError, match="another one under the same id"):
            await wrong.list_messages("room")
        assert await wrong.count("room") == 3

    async def test_the_rest_can_be_read_around_it(self, room: MemoryConversationStore) -> None:
        """What lies before and behind; and the entry can be removed by who decides to."""
        cursors = [entry.cursor for entry in await room.list_messages("room")]
        body = json.loads(stored(room, "room")[1])
        body["sealed"]["data"] = "AAAA"
        alter(room, "room", 1, lambda _: json.dumps(body))
        store = both(room)
        with pytest.raises(TamperedError, match=f"at {cursors[1]} of conversation room"):
            await store.list_messages("room")
        assert texts(await store.list_messages("room", before=cursors[1])) == ["run-1.0"]
        assert texts(await store.list_messages("room", after=cursors[1])) == ["run-1.2"]
        assert await store.remove("room", str(cursors[1]))
        assert texts(await store.list_messages("room")) == ["run-1.0", "run-1.2"]


async def test_ids_that_utf_8_cannot_hold_cost_no_message() -> None:
    """The seal is bound to the id as it is stored."""
    below = memory_store()
    odd = Message(**dict(user_draft("x")), id="a\ud83d", run_id="b\ude00")
    await both(below).append("room", [odd])
    [read] = await both(below).list_messages("room")
    assert (read.id, read.run_id, read.text) == ("a\ufffd", "b\ufffd", "x")


async def test_a_summary_stays_one() -> None:
    """Its version comes back, which the sealed form needs in any case."""
    below = memory_store()
    summary = imported("s").model_copy(
        update={"kind": MessageKind.SUMMARY, "role": Role.SYSTEM, "version": 2}
    )
    plain = imported("p")
    await both(below).append("room", [summary, plain])
    assert [(each.kind, each.version) for each in await both(below).list_messages("room")] == [
        (MessageKind.SUMMARY, 2),
        (MessageKind.MESSAGE, 1),
    ]
