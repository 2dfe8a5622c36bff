"""The projector: folds the Kafka bus into the stores. It comes with the Kafka bus."""
