"""The contract between the service and its AMQP broker, checked against every broker it may meet."""
