"""The one error that users see: where, what, what is allowed.

Library code raises it; the command line alone prints it, as one line, and exits with its code.
Imports nothing, so that every validation answers before torch is loaded.
"""


class UserError(Exception):
    """Something a person can fix: `where: what; allowed: allowed`, plus at most one hint.

    code: 2 bad usage, config or data (found before any work, nothing written) · 1 failed while
    running · 3 stopped by a numeric guard · 4 checkpoint unusable or untrusted.
    """

    def __init__(
        self, where: str, what: str, allowed: str = "", *, hint: str = "", code: int = 2
    ) -> None:
        self.where, self.what, self.allowed, self.hint, self.code = where, what, allowed, hint, code
        super().__init__(self.line())

    def line(self) -> str:
        """The message on one line, whatever the parts contain."""
        text = f"{self.where}: {self.what}" + (f"; allowed: {self.allowed}" if self.allowed else "")
        return " ".join(text.split())
