"""What is at ``/`` of a projector's port."""

from monstermq_shared.operation.plain_page import PlainPage

PAGE = PlainPage("""\
MonsterMQ projector

/health   whether it lives
/ready    whether it works, and why not
/metrics  how far its rows are behind, and what it has done
""")
