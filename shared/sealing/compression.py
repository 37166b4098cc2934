"""Compression of bytes: zstd is written, zstd and gzip are read, and nothing grows without end."""

import sys
import zlib
from typing import Any, Final

from shared.errors import ConfigurationError, SealKeyError, SealLimitError, TamperedError

ZSTD: Final = "zstd"
GZIP: Final = "gzip"
READ: Final = frozenset({ZSTD, GZIP})
"""The names of layers that can be undone here."""
_WINDOW_LOG: Final = 23
"""8 MiB: what a decoder may be made to remember. Frames of this writer ask for less."""
_GZIP: Final = 16 + zlib.MAX_WBITS


def load_zstd() -> Any:
    """The zstd module.

    Raises:
        ConfigurationError: It is not installed.
    """
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError as error:
        raise ConfigurationError(
            "Compression needs the library `backports.zstd`; install celery-agents[compression], "
            "or set AGENTS_COMPRESSION=none where nothing is compressed yet."
        ) from error
    return zstd


def compress(data: bytes) -> bytes:
    """One zstd frame that says how long its content is."""
    packed: bytes = load_zstd().compress(data)
    return packed


def decompress(layer: str, data: bytes, *, limit: int, where: str) -> bytes:
    """Undo a layer of `READ`; `where` names it in errors. Takes at most `limit` bytes and a window.

    Raises:
        SealLimitError: It would become longer than `limit` bytes.
        TamperedError: It is not one whole piece of compressed data.
        SealKeyError: The library is not installed.
    """
    unpacked, is_whole = (_unzstd if layer == ZSTD else _gunzip)(data, limit + 1, where)
    if len(unpacked) > limit:
        raise SealLimitError(
            f"{where} is compressed and would become longer than {limit} bytes, so it was not "
            "unpacked: raise AGENTS_MAX_MESSAGE_BYTES if you know that such messages are there."
        )
    if not is_whole:
        raise TamperedError(f"{where} was altered: its compressed data is damaged. It is kept.")
    return unpacked


def _unzstd(data: bytes, most: int, where: str) -> tuple[bytes, bool]:
    try:
        zstd = load_zstd()
    except ConfigurationError as error:
        raise SealKeyError(
            f"{where} is compressed, and the library to unpack it is not installed here; install "
            "celery-agents[compression]."
        ) from error
    options = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
    decompressor = zstd.ZstdDecompressor(options=options)
    try:
        unpacked: bytes = decompressor.decompress(data, most)
    except zstd.ZstdError as error:
        raise TamperedError(f"{where} was altered: it is not zstd. It is kept.") from error
    return unpacked, bool(decompressor.eof and not decompressor.unused_data)


def _gunzip(data: bytes, most: int, where: str) -> tuple[bytes, bool]:
    decompressor = zlib.decompressobj(_GZIP)
    try:
        unpacked = decompressor.decompress(data, most)
    except zlib.error as error:
        raise TamperedError(f"{where} was altered: it is not gzip. It is kept.") from error
    return unpacked, decompressor.eof and not decompressor.unused_data
