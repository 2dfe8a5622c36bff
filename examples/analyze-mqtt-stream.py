"""Counts what goes through the Kafka bus, per minute and topic, with Spark.

    spark-submit --packages org.apache.spark:spark-sql-kafka-0-10_2.12:3.5.0 analyze-mqtt-stream.py

The package's version is Spark's; where Spark is built for Scala 2.13, its name ends so. Ctrl-C ends
the count.
"""

import argparse

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

# schemas/bus-record.v1.json says what each member means.
RECORD = """
    topic STRING,
    payload STRING,
    payloadBase64 STRING,
    timestamp TIMESTAMP,
    qos INT,
    retained BOOLEAN,
    clientId STRING,
    id STRING
"""


def messages(stream: DataFrame) -> DataFrame:
    """Return the messages among Kafka's records, a column for each member.

    The broker's own records carry the header `monstermq-control`, and messages never do.
    """
    control = f.exists(f.col("headers"), lambda header: header["key"] == "monstermq-control")
    of_clients = stream.where(~f.coalesce(control, f.lit(False)))
    record = f.from_json(f.col("value").cast("string"), RECORD)
    return of_clients.select(record.alias("record")).select("record.*").where("topic IS NOT NULL")


def per_minute(rows: DataFrame) -> DataFrame:
    """Return how many messages each topic had, of how many clients, and the mean of its numbers."""
    return (
        rows.withWatermark("timestamp", "1 minute")
        .groupBy(f.window("timestamp", "1 minute"), "topic")
        .agg(
            f.count("*").alias("messages"),
            f.approx_count_distinct("clientId").alias("clients"),
            f.avg(f.expr("try_cast(payload AS DOUBLE)")).alias("mean"),
        )
        .select(f.col("window.start").alias("minute"), "topic", "messages", "clients", "mean")
    )


def main() -> None:
    """Print the counts of each minute to the console, until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Counts what goes through the Kafka bus.")
    parser.add_argument("--servers", default="localhost:9092", help="Kafka.Servers")
    parser.add_argument("--topic", default="monstermq-stream", help="Kafka.Bus.Topic")
    parser.add_argument("--once", action="store_true", help="stop at the end of what is there")
    arguments = parser.parse_args()
    spark = SparkSession.builder.appName("analyze-mqtt-stream").getOrCreate()
    spark.sparkContext.setLogLevel("WARN")
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    stream = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", arguments.servers)
        .option("subscribe", arguments.topic)
        .option("startingOffsets", "earliest")
        .option("includeHeaders", "true")
        .load()
    )
    counts = per_minute(messages(stream)).writeStream.outputMode("update").format("console")
    counts = counts.option("truncate", "false").option("numRows", 100)
    if arguments.once:
        counts = counts.trigger(availableNow=True)
    counts.start().awaitTermination()


if __name__ == "__main__":
    main()
