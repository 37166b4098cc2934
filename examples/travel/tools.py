"""The travel agent's tools: a small, fixed world that answers as slowly as a real one."""

import asyncio
import hashlib
from math import asin, cos, radians, sin, sqrt
from typing import Final

from pydantic import BaseModel
from pydantic_ai import ModelRetry

from agent_worker.context import tool_context


class City(BaseModel):
    """What this world knows about a city."""

    airport: str
    latitude: float
    longitude: float
    sky: str
    celsius: int


class Flight(BaseModel):
    """A flight that can be booked; the price is for one passenger, one way."""

    id: str
    airline: str
    departs: str
    price_eur: float


class Weather(BaseModel):
    """How a city will be at the weekend."""

    city: str
    sky: str
    celsius: int


class Conversion(BaseModel):
    """An amount of money in another currency."""

    amount: float
    currency: str


class Booking(BaseModel):
    """Seats on a flight that are paid for."""

    reference: str
    flight_id: str
    passengers: int


class Cancellation(BaseModel):
    """A booking that was given back."""

    reference: str
    refunded: bool


def _city(airport: str, latitude: float, longitude: float, sky: str, celsius: int) -> City:
    return City(airport=airport, latitude=latitude, longitude=longitude, sky=sky, celsius=celsius)


CITIES: Final = {
    "Berlin": _city("BER", 52.37, 13.50, "rainy", 14),
    "Lisbon": _city("LIS", 38.77, -9.13, "sunny", 24),
    "London": _city("LHR", 51.47, -0.45, "drizzly", 15),
    "Madrid": _city("MAD", 40.47, -3.56, "sunny", 27),
    "Oslo": _city("OSL", 60.19, 11.10, "snowy", -2),
    "Paris": _city("CDG", 49.01, 2.55, "cloudy", 17),
    "Rome": _city("FCO", 41.80, 12.24, "sunny", 25),
    "Tokyo": _city("HND", 35.55, 139.78, "cloudy", 19),
    "Vienna": _city("VIE", 48.11, 16.57, "cloudy", 16),
}
EUR_RATES: Final = {"CHF": 0.94, "EUR": 1.0, "GBP": 0.85, "USD": 1.09}
"""What one euro is worth."""

_DEPARTURES: Final = (
    ("Sunrise Air", "06:40", 0.9),
    ("Meridian", "10:15", 1.25),
    ("Owl Jet", "21:50", 0.8),
)


async def search_flights(origin: str, destination: str) -> list[Flight]:
    """Find flights from one city to another this Friday, with prices for one passenger."""
    start, end = find_city(origin), find_city(destination)
    await asyncio.sleep(1.2)
    base = 40 + 0.06 * _distance_km(start, end)
    return [
        Flight(
            id=f"{start.airport}-{end.airport}-{departs.replace(':', '')}",
            airline=airline,
            departs=departs,
            price_eur=round(base * factor, 2),
        )
        for airline, departs, factor in _DEPARTURES
    ]


async def get_weather(city: str) -> Weather:
    """Forecast the weather of a city for the weekend."""
    found = find_city(city)
    await asyncio.sleep(0.6)
    return Weather(city=city, sky=found.sky, celsius=found.celsius)


async def convert_currency(amount: float, source: str, target: str) -> Conversion:
    """Convert an amount of money; currencies are three letters, such as EUR."""
    for currency in (source, target):
        if currency not in EUR_RATES:
            raise ModelRetry(f"No rate for {currency!r}. Known: {', '.join(EUR_RATES)}.")
    await asyncio.sleep(0.4)
    return Conversion(
        amount=round(amount / EUR_RATES[source] * EUR_RATES[target], 2), currency=target
    )


async def book_flight(flight_id: str, passengers: int) -> Booking:
    """Book and pay seats on a flight that `search_flights` found."""
    # A worker may die in here. The next one calls again with the same key, and whoever takes the
    # money would see that it has been paid; here the same key gives the same booking.
    key = tool_context().idempotency_key
    await asyncio.sleep(0.9)
    return Booking(reference=_reference(key), flight_id=flight_id, passengers=passengers)


async def cancel_booking(reference: str) -> Cancellation:
    """Give a booking back. Cancelling one twice is harmless."""
    await asyncio.sleep(0.5)
    return Cancellation(reference=reference, refunded=True)


def find_city(name: str) -> City:
    """A city by its name.

    Raises:
        ModelRetry: There is none in this world; the model hears which there are.
    """
    if name not in CITIES:
        raise ModelRetry(f"No city {name!r} in this small world. Known: {', '.join(CITIES)}.")
    return CITIES[name]


def _distance_km(start: City, end: City) -> float:
    """The way along a great circle (haversine)."""
    latitudes = radians(start.latitude), radians(end.latitude)
    half_height = (latitudes[1] - latitudes[0]) / 2
    half_width = radians(end.longitude - start.longitude) / 2
    chord = sin(half_height) ** 2 + cos(latitudes[0]) * cos(latitudes[1]) * sin(half_width) ** 2
    return 2 * 6371 * asin(sqrt(chord))


def _reference(key: str) -> str:
    """Six characters that are the same for the same key."""
    digest = hashlib.blake2b(key.encode(), digest_size=6).digest()
    return "".join("ABCDEFGHJKLMNPQRSTUVWXYZ23456789"[byte % 32] for byte in digest)
