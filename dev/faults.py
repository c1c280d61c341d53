"""The one exception of the local stack: something that a person must put right."""


class StackError(Exception):
    """Carries one sentence that says what is wrong and, where there is one, the way out."""
