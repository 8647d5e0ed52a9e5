"""The services, top to bottom: the path of a request."""
