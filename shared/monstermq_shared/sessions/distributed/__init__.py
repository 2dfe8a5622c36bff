"""The distributed engine: sessions of one of many edges on a bus with several partitions."""
