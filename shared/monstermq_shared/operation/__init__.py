"""What every process of the product is operated by: signals, logs, health, service manager."""
