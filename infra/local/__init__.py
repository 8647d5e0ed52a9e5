"""The local stack: RabbitMQ, PostgreSQL, a small language model and the services, on loopback, without Docker."""
