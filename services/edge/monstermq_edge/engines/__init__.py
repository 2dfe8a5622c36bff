"""What stands behind the session port: engines with all that surrounds them."""
