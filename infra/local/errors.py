"""What can go wrong with a local stack.

Exception
└── StackError  says what is missing, taken or broken, and where to look
"""


class StackError(Exception):
    """The stack can't do what was asked; the message is meant for the person at the terminal."""
