"""The difference of two JSON values: applied to the one, it gives the other."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.json_difference import apply, difference

scalars = st.none() | st.booleans() | st.integers(0, 2) | st.just(1.0) | st.sampled_from(["", "a"])
names = st.sampled_from(["is", "fields", "items", "without", "a"])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3)
)


class TestDifference:
    @given(base=values, actual=values)
    def test_a_change_leads_from_one_to_the_other(self, base: Any, actual: Any) -> None:
        """Exactly, with types; also after the change was stored as JSON."""
        change = json.loads(json.dumps(difference(base, actual)))
        made = apply(change, base)
        assert json.dumps(made, sort_keys=True) == json.dumps(actual, sort_keys=True)

    @given(value=values)
    def test_equal_values_have_no_difference(self, value: Any) -> None:
        """Nothing is kept where nothing would be lost."""
        assert difference(value, value) == {}

    @given(change=values, base=values)
    def test_any_change_can_be_applied_to_anything(self, change: Any, base: Any) -> None:
        """A change that does not fit is ignored, it never raises."""
        json.dumps(apply(change, base))

    def test_only_what_differs_is_in_it(self) -> None:
        """A large value with a small difference makes a small change."""
        base: Any = {"long": "x" * 1000, "list": [{"a": 1}, {"a": 2}], "gone": 1}
        actual: Any = {"long": "x" * 1000, "list": [{"a": 1}, {"a": 2, "b": 3}]}
        assert difference(base, actual) == {
            "fields": {"list": {"items": {"1": {"fields": {"b": {"is": 3}}}}}},
            "without": ["gone"],
        }

    @pytest.mark.parametrize(("base", "actual"), [(1, True), (1, 1.0), (0, False), (None, "")])
    def test_types_count(self, base: Any, actual: Any) -> None:
        """Values that Python takes for equal are not the same JSON."""
        assert difference(base, actual) == {"is": actual}
