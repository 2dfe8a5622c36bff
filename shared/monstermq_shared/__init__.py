"""What every MonsterMQ service shares: records, topics, the bus, projections, sessions, stores."""
