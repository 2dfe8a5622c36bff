"""What the addresses of a configuration mean."""

from ipaddress import ip_address


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches what listens on an address; of a name nobody knows."""
    if address.casefold() == "localhost":
        return True
    try:
        return ip_address(address).is_loopback
    except ValueError:  # a host name
        return False
