"""What a scenario may say besides passing and failing."""


class Skip(Exception):
    """The claim cannot be tested here; the text says why and what would help."""
