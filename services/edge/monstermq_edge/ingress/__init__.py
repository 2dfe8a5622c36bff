"""Kafka topics whose records become MQTT messages."""
