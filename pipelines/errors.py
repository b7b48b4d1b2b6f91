"""The one class of errors whose words reach a visitor. Everything else is ours to mend, and is logged instead."""


class UserError(ValueError):
    """Something the user can do something about: says what was got, what is allowed, and what to do.

    `message` may hold {names} of `values`, so that a page can show it in another language. A library's own ValueError
    is not one of these, and its text is never shown.
    """

    def __init__(self, message: str, **values: object):
        super().__init__(message.format(**values) if values else message)
        self.message, self.values = message, values
