"""Money: US dollars, exactly."""

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Annotated, Final

from pydantic import AfterValidator, Field, PlainSerializer

DIGITS: Final = 12
"""Behind the point. A token costs down to some 1e-10 dollars."""
_UNIT: Final = Decimal(1).scaleb(-DIGITS)
_LARGEST: Final = Decimal(10) ** 6


def exact(amount: Decimal) -> Decimal:
    """The amount with as many digits as are kept, and no zeros at its end."""
    rounded = amount.quantize(_UNIT, rounding=ROUND_HALF_EVEN)
    return Decimal(format_usd(rounded))


def format_usd(amount: Decimal) -> str:
    """The amount in plain digits, never as 1E-7."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def to_units(amount: Decimal) -> int:
    """The amount as a whole number of the smallest unit, to be added up by a store."""
    return int(exact(amount).scaleb(DIGITS))


def from_units(units: int) -> Decimal:
    """What `to_units` was given."""
    return exact(Decimal(units).scaleb(-DIGITS))


Usd = Annotated[
    Decimal,
    Field(ge=0, le=_LARGEST),
    AfterValidator(exact),
    PlainSerializer(format_usd, return_type=str, when_used="json"),
]
"""US dollars; in JSON a string in plain digits."""
