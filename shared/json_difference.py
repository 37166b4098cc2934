"""What one JSON value has that another has not, as JSON: to keep what a conversion would lose.

A change is an object with at most these fields; an empty one says that nothing differs:

    {"is": value}                                     another value altogether
    {"fields": {name: change}, "without": [name]}     an object: fields that differ, fields missing
    {"items": {place: change}}                        an array of the same length: items that differ
"""

from pydantic import JsonValue

Change = dict[str, JsonValue]


def difference(base: JsonValue, actual: JsonValue) -> Change:
    """The change that makes `actual` of `base`."""
    if isinstance(base, dict) and isinstance(actual, dict):
        fields: dict[str, JsonValue] = {
            name: difference(base[name], value) if name in base else {"is": value}
            for name, value in actual.items()
        }
        missing: list[JsonValue] = [name for name in base if name not in actual]
        return _filled(fields=_differing(fields), without=missing)
    if isinstance(base, list) and isinstance(actual, list) and len(base) == len(actual):
        pairs = enumerate(zip(base, actual, strict=True))
        items = {str(place): difference(*pair) for place, pair in pairs}
        return _filled(items=_differing(dict(items)))
    # The types count: to Python, true equals 1 and 1 equals 1.0.
    return {} if type(base) is type(actual) and base == actual else {"is": actual}


def apply(change: JsonValue, base: JsonValue) -> JsonValue:
    """Make of `base` what `difference` saw. Parts that do not fit `base` (any more) are ignored."""
    if not isinstance(change, dict):
        return base
    if "is" in change:
        return change["is"]
    if isinstance(base, dict):
        return _apply_to_object(change, base)
    items = change.get("items")
    if isinstance(base, list) and isinstance(items, dict):
        return [apply(items.get(str(place)), item) for place, item in enumerate(base)]
    return base


def _apply_to_object(change: Change, base: dict[str, JsonValue]) -> JsonValue:
    fields, without = change.get("fields"), change.get("without")
    missing = without if isinstance(without, list) else []
    made = {name: value for name, value in base.items() if name not in missing}
    for name, field in fields.items() if isinstance(fields, dict) else ():
        made[name] = apply(field, made.get(name))
    return made


def _differing(changes: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {name: change for name, change in changes.items() if change}


def _filled(**parts: JsonValue) -> Change:
    return {name: part for name, part in parts.items() if part}
