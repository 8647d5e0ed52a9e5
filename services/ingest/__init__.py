"""The gate: two doors, HTTP and AMQP, one intake."""
