"""A page of plain text at ``/`` of an operation port."""


class PlainPage:
    """See ``health.Page``.

    Args:
        text: What it shows.
    """

    def __init__(self, text: str) -> None:
        self.body = text.encode()

    @property
    def headers(self) -> dict[str, str]:
        """See ``health.Page``."""
        return {"content-type": "text/plain; charset=utf-8"}
