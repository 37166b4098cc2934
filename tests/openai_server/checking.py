"""What the API takes: every field that a request may have, and every one that it must have."""

import re
from typing import Any, Final

MAX_TEXT: Final = 10_485_760
_CALL_ID: Final = 64
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ROLES: Final = ("user", "assistant", "system", "developer")
_TEXTS: Final = {"assistant": ("output_text", "refusal")}


class BadRequestError(Exception):
    """The request breaks a rule; `param` names where."""

    def __init__(self, message: str, param: str, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.param = param
        self.code = code


def check_body(body: Any, allowed: set[str]) -> dict[str, Any]:
    """A request's body: an object without fields that are unknown."""
    if not isinstance(body, dict):
        raise BadRequestError("the body is no object", "", "invalid_type")
    for name in body.keys() - allowed:
        raise BadRequestError(f"Unknown parameter: '{name}'.", name, "unknown_parameter")
    return body


def check_metadata(metadata: Any) -> dict[str, str]:
    """At most 16 names of 64 characters, with texts of 512."""
    if metadata is None:
        return {}
    if not isinstance(metadata, dict) or len(metadata) > 16:
        raise BadRequestError("at most 16 pairs", "metadata")
    for name, value in metadata.items():
        if len(name) > 64 or not isinstance(value, str) or len(value) > 512:
            raise BadRequestError("a name or a value is too long", f"metadata.{name}")
    return metadata


def check_items(items: Any) -> list[dict[str, Any]]:
    """At most 20 items, each as the API stores it."""
    if not isinstance(items, list) or not items:
        raise BadRequestError("at least one item", "items", "missing_required_parameter")
    if len(items) > 20:
        raise BadRequestError("at most 20 items", "items", "array_above_max_length")
    return [_check_item(item, f"items[{place}]") for place, item in enumerate(items)]


def _check_item(item: Any, where: str) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise BadRequestError("no object", where, "invalid_type")
    kind = item.get("type", "message" if "role" in item else None)
    if kind == "message":
        return _message(item, where)
    if kind == "function_call":
        return _call(item, where)
    if kind == "function_call_output":
        return _result(item, where)
    raise BadRequestError(f"Invalid value: {kind!r}", f"{where}.type")


def _message(item: dict[str, Any], where: str) -> dict[str, Any]:
    _check_fields(item, {"type", "role", "content"}, where)
    if item["role"] not in _ROLES:
        raise BadRequestError(f"Invalid value: {item['role']!r}", f"{where}.role")
    kinds = _TEXTS.get(item["role"], ("input_text", "input_image", "input_file"))
    content = item["content"]
    if isinstance(content, str):
        content = [{"type": kinds[0], "text": content}]
    if not isinstance(content, list) or not content:
        raise BadRequestError("no content", f"{where}.content", "empty_array")
    parts = [_part(part, kinds, f"{where}.content[{n}]") for n, part in enumerate(content)]
    return {"type": "message", "status": "completed", "role": item["role"], "content": parts}


def _part(part: dict[str, Any], kinds: tuple[str, ...], where: str) -> dict[str, Any]:
    if part.get("type") not in kinds:
        known = " and ".join(repr(kind) for kind in kinds)
        raise BadRequestError(
            f"Invalid value: {part.get('type')!r}. Supported values are: {known}.", where
        )
    match part["type"]:
        case "input_text":
            _check_fields(part, {"type", "text"}, where)
        case "output_text":
            _check_fields(part, {"type", "text"}, where)
            part = part | {"annotations": [], "logprobs": []}
        case "input_image":
            _check_fields(part, {"type", "image_url", "detail"}, where)
            if not re.match(r"https?://|data:image/[a-z+.-]+;base64,", part["image_url"]):
                raise BadRequestError("no image", f"{where}.image_url", "invalid_url")
            # Given back only where `include` asks for it.
            part = {"type": "input_image", "detail": part["detail"], "file_id": None}
        case "input_file":
            own = {"file_url"} if "file_url" in part else {"file_data", "filename"}
            _check_fields(part, {"type"} | own, where)
            part = {"type": "input_file", "filename": part.get("filename")}
    _check_text(part.get("text", ""), f"{where}.text")
    return part


def _call(item: dict[str, Any], where: str) -> dict[str, Any]:
    _check_fields(item, {"type", "call_id", "name", "arguments"}, where)
    _check_call_id(item["call_id"], where)
    if not isinstance(item["name"], str) or not _NAME.fullmatch(item["name"]):
        raise BadRequestError("no name of a function", f"{where}.name", "invalid_function_name")
    _check_text(item["arguments"], f"{where}.arguments")
    return item | {"status": "completed"}


def _result(item: dict[str, Any], where: str) -> dict[str, Any]:
    _check_fields(item, {"type", "call_id", "output"}, where)
    _check_call_id(item["call_id"], where)
    output = item["output"]
    if isinstance(output, str):
        _check_text(output, f"{where}.output")
        return item | {"status": "completed"}
    kinds = ("input_text", "input_image", "input_file")
    parts = [_part(part, kinds, f"{where}.output[{n}]") for n, part in enumerate(output)]
    return item | {"status": "completed", "output": parts}


def _check_fields(value: dict[str, Any], names: set[str], where: str) -> None:
    for name in value.keys() - names:
        at = f"{where}.{name}"
        raise BadRequestError(f"Unknown parameter: {name!r}", at, "unknown_parameter")
    for name in names - value.keys() - {"type"}:
        raise BadRequestError(f"Missing: {name!r}", f"{where}.{name}", "missing_required_parameter")


def _check_call_id(call_id: Any, where: str) -> None:
    if not isinstance(call_id, str) or not 0 < len(call_id) <= _CALL_ID:
        raise BadRequestError("1 to 64 characters", f"{where}.call_id", "string_above_max_length")


def _check_text(text: Any, where: str) -> None:
    if not isinstance(text, str):
        raise BadRequestError("no text", where, "invalid_type")
    if len(text) > MAX_TEXT:
        raise BadRequestError("too long", where, "string_above_max_length")
