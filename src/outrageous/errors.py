"""The one error that users see: commands print its text and exit with code 2."""


class UserError(ValueError):
    """A mistake that the user can mend. The message names the bad value and the fix."""
