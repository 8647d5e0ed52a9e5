"""What happens to accepted requests while parts of the system die: `make chaos`, and a short form in the tests."""
