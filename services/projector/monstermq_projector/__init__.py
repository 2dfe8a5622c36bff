"""The projector: folds the Kafka bus into the stores."""
