"""Questions to a server on loopback: is it ready? No answer, or a strange one, means no."""

import http.client
import socket

from infra.local.ports import LOOPBACK

ANSWER_WITHIN_S = 2.0
AMQP_0_9_1 = b"AMQP\x00\x00\x09\x01"
METHOD_FRAME = b"\x01"


def http_ok(port: int, path: str) -> bool:
    """Whether GET of the path answers 200."""
    # Not urllib: it would ask a proxy named in the environment.
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=ANSWER_WITHIN_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def amqp_ok(port: int) -> bool:
    """Whether a broker greets with a method frame (connection.start)."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=ANSWER_WITHIN_S) as connection:
            connection.sendall(AMQP_0_9_1)
            return connection.recv(1) == METHOD_FRAME
    except OSError:
        return False


def listens(port: int) -> bool:
    """Whether anything accepts a connection."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=ANSWER_WITHIN_S).close()
    except OSError:
        return False
    return True
