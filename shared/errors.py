"""Every error Forebay raises on purpose.

::

    ForebayError
    ├── StartupError                 the process cannot start; the message says what to change
    │   ├── InvalidSettings          an environment variable is wrong
    │   ├── InvalidPolicy            a key of the policy file is wrong
    │   └── TopologyConflict         the broker holds a queue or exchange with other arguments
    ├── InvalidRequest               the door says no: what was wrong, where, what would be right
    │   ├── RequestTooLarge          413
    │   ├── NoJson                   415
    │   └── IdempotencyConflict      422: the key was used with another body
    ├── NotNow                       retryable: the door takes no more for the time being, and says when to come back
    │   ├── TooManyRequests          429: more than this client may send
    │   └── Overloaded               503: more waits than may wait
    ├── UndecodableMessage           a message on a work queue is no event of ours
    ├── Park                         retryable: a handler asks for its delivery again after the queue's delay
    ├── BrokerError
    │   ├── BrokerUnavailable        retryable: no connection, or no confirm in time
    │   ├── PublishRefused           retryable: a queue is full
    │   ├── Unroutable               a mandatory message that no queue takes
    │   └── Unpublishable            a message that AMQP cannot carry
    └── ProviderError                the call to a model failed (see services/inference/errors.py)

Whether trying again can help is a property of the class (``retryable``), and so is whether any request with the same
prompt would fail alike (``prompt_at_fault``); ``code`` is the stable name that ends up in
events, problem documents and metrics.
"""

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from shared.events import Event


class ForebayError(Exception):
    """Base of all errors raised on purpose."""

    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False
    prompt_at_fault: ClassVar[bool] = False


class StartupError(ForebayError):
    """The process cannot start; the message says what to change."""

    code = "startup_error"


class InvalidSettings(StartupError):
    """An environment variable is wrong."""

    code = "invalid_settings"


class InvalidPolicy(StartupError):
    """A key of the policy file is wrong."""

    code = "invalid_policy"


class TopologyConflict(StartupError):
    """The broker holds a queue or exchange of that name with other arguments."""

    code = "topology_conflict"


class InvalidRequest(ForebayError):
    """A submission that can't be taken.

    Attributes:
        pointer: JSON pointer to the offending part of the body, or the name of a header; ``""`` is the whole body.
    """

    code = "invalid_request"

    def __init__(self, message: str, *, pointer: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.pointer = pointer


class RequestTooLarge(InvalidRequest):
    """The body has more bytes than ``max_body_bytes``."""

    code = "request_too_large"


class NoJson(InvalidRequest):
    """The body does not say that it is JSON."""

    code = "unsupported_media_type"


class IdempotencyConflict(InvalidRequest):
    """The idempotency key was used before, with another body."""

    code = "idempotency_conflict"


class NotNow(ForebayError):
    """The door takes no more for the time being.

    Attributes:
        after_s: seconds until it is expected to.
    """

    code = "not_now"
    retryable = True

    def __init__(self, message: str, *, after_s: float) -> None:
        super().__init__(message)
        self.after_s = after_s


class TooManyRequests(NotNow):
    """A client has sent more than it may."""

    code = "too_many_requests"


class Overloaded(NotNow):
    """More waits than may wait."""

    code = "overloaded"


class UndecodableMessage(ForebayError):
    """A message on a work queue is no event of ours."""

    code = "undecodable_message"


class Park(ForebayError):
    """A handler can't go on now and would rather not hold its delivery: bring it again later.

    On a queue that can't be parked the delivery is held and the handler called again after a pause.

    Attributes:
        after_s: seconds; the queue's next longer delay is taken, or its longest.
        instead: the event to bring, with what was learned meanwhile; None for the message as it came.
    """

    code = "park"
    retryable = True

    def __init__(self, message: str, *, after_s: float = 0.0, instead: "Event | None" = None) -> None:
        super().__init__(message)
        self.after_s = after_s
        self.instead = instead


class BrokerError(ForebayError):
    """Something between us and RabbitMQ."""

    code = "broker_error"


class BrokerUnavailable(BrokerError):
    """No connection, or no confirm in time; the message may or may not have arrived."""

    code = "broker_unavailable"
    retryable = True


class PublishRefused(BrokerError):
    """The broker refused a message: a queue it would go into is full."""

    code = "publish_refused"
    retryable = True


class Unpublishable(BrokerError):
    """A message that AMQP cannot carry: a header of a type or size it does not know."""

    code = "unpublishable"


class Unroutable(BrokerError):
    """The broker returned a mandatory message: no queue is bound for its routing key."""

    code = "unroutable"
