"""The bus on Kafka: one topic for messages, one for sessions, read by every edge."""
