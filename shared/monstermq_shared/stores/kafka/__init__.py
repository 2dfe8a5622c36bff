"""Archives in Kafka: the records of a group are the records of a topic."""
