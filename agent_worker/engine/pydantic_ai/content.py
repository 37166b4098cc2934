"""Content: what is said, between its stored form and the JSON form of Pydantic AI.

The JSON form is that of `ModelMessagesTypeAdapter`: text is a string, anything else a mapping with
a `kind`. Every part of stored content has one obvious translation, `native_item`. Whatever an item
says beyond it is kept as the *difference*, so nothing is stored twice and nothing is lost,
whichever fields a later version adds.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from shared.message import Content, ContentPart, DataPart, MediaPart, TextPart

Json = dict[str, Any]

_URL_KINDS: Final = {"image": "image-url", "audio": "audio-url", "video": "video-url"}
_TEXT_KINDS: Final = frozenset({"text-content", "structured-content"})
_STANDARD_ALPHABET: Final = str.maketrans("-_", "+/")
_URL_SAFE_ALPHABET: Final = str.maketrans("+/", "-_")


def difference(actual: Mapping[str, Any], derived: Mapping[str, Any]) -> Json:
    """What to lay over `derived` to get `actual`. A key that is absent counts as None."""
    beyond = {key: value for key, value in actual.items() if value != derived.get(key)}
    gone = (key for key, value in derived.items() if value is not None and key not in actual)
    return beyond | dict.fromkeys(gone)


def exact_difference(actual: Mapping[str, Any], derived: Mapping[str, Any]) -> Json:
    """As `difference`, but a None in `actual` that `derived` does not have is kept."""
    return {
        key: value for key, value in actual.items() if key not in derived or derived[key] != value
    }


def stored_item(item: Any) -> ContentPart | None:
    """The part that an item of a prompt becomes; None for what only Pydantic AI understands."""
    if isinstance(item, str):
        return TextPart(text=item)
    if item["kind"] in _TEXT_KINDS:
        return TextPart(text=item["content"])
    return stored_file(item)


def stored_file(item: Mapping[str, Any]) -> MediaPart | None:
    """A file as a part; None for one that only its provider can find (an uploaded file)."""
    media_type = item.get("media_type")
    if item["kind"] == "binary":
        data = item["data"].translate(_STANDARD_ALPHABET)
        return MediaPart(media_type=str(media_type), data=data)
    if "url" in item:
        any_of_its_kind = f"{item['kind'].removesuffix('-url')}/*"
        return MediaPart(media_type=media_type or any_of_its_kind, url=item["url"])
    return None


def native_item(part: ContentPart) -> Any:
    """The obvious translation of a part."""
    if isinstance(part, DataPart):
        return part.value
    if not isinstance(part, MediaPart):
        return part.text
    if part.data is not None:
        data = part.data.translate(_URL_SAFE_ALPHABET)
        return {
            "kind": "binary",
            "data": data,
            "media_type": part.media_type,
            "vendor_metadata": None,
        }
    return {
        "kind": _URL_KINDS.get(part.media_type.partition("/")[0], "document-url"),
        "url": part.url or "",
        "media_type": part.media_type,
        "force_download": False,
        "vendor_metadata": None,
    }


def store_items(
    items: Sequence[Any], parts: Sequence[ContentPart | None]
) -> tuple[tuple[ContentPart, ...], list[Json] | None]:
    """The parts that are there, and how to get all items back from them.

    The second value has one entry for each item: the index `of` its part and the difference to the
    part's obvious translation, or the `raw` item. It is None where the parts alone tell it.
    """
    stored: list[ContentPart] = []
    entries: list[Json] = []
    for item, part in zip(items, parts, strict=True):
        if part is None:
            entries.append({"raw": item})
            continue
        plain = native_item(part)
        # Exact, since Pydantic AI knows a tool's file by the digest of all its fields.
        beyond = {} if item == plain else exact_difference(item, _mapping(plain))
        entries.append({"of": len(stored), **beyond})
        stored.append(part)
    is_plain = all(entry == {"of": index} for index, entry in enumerate(entries))
    return tuple(stored), None if is_plain else entries


def restore_items(parts: Sequence[ContentPart], entries: Sequence[Json] | None) -> list[Any]:
    """The items that `store_items` was given."""
    if entries is None:
        return [native_item(part) for part in parts]
    return [_restore(parts, entry) for entry in entries]


def text_of(content: Content | None) -> str:
    """Content for a place that holds text only: data as JSON, media as their address."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(_text(part) for part in content)


def without_data(parts: Sequence[ContentPart]) -> list[ContentPart]:
    """The parts with data written as text, for prompts that another engine stored."""
    return [TextPart(text=_text(part)) if isinstance(part, DataPart) else part for part in parts]


def _restore(parts: Sequence[ContentPart], entry: Json) -> Any:
    if "raw" in entry:
        return entry["raw"]
    plain = native_item(parts[entry["of"]])
    beyond = {key: value for key, value in entry.items() if key != "of"}
    return {**_mapping(plain), **beyond} if beyond else plain


def _mapping(plain: Any) -> Json:
    """Text that carries more than its characters is a mapping, too."""
    return plain if isinstance(plain, dict) else {"kind": "text-content", "content": plain}


def _text(part: ContentPart) -> str:
    if isinstance(part, DataPart):
        return json.dumps(part.value, ensure_ascii=False)
    return (part.url or "") if isinstance(part, MediaPart) else part.text
