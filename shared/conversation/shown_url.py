"""URLs as logs may show them."""


def shown_url(url: str) -> str:
    """A URL without user, password and parameters."""
    scheme, separator, rest = url.partition("://")
    plain, _, parameters = rest.partition("?")
    if "@" in parameters:
        # A piece of a password, in front of the question mark or behind it: who would know.
        return f"{scheme}{separator}..."
    return f"{scheme}{separator}{plain.rpartition('@')[2]}"
