"""The host of the distributed engine on Kafka: one of many edges on a bus."""
