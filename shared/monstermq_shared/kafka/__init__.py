"""Clients of Kafka: what the bus and the archives have in common."""
