"""What is at ``/`` of a projector's port."""

_TEXT = """\
MonsterMQ projector

/health   whether it lives
/ready    whether it works, and why not
/metrics  how far its rows are behind, and what it has done
"""


class PlainPage:
    """See ``health.Page``."""

    body = _TEXT.encode()

    @property
    def headers(self) -> dict[str, str]:
        """See ``health.Page``."""
        return {"content-type": "text/plain; charset=utf-8"}
