"""Everything simtrail raises on purpose.

    SimtrailError                   catch this one at an edge
    ├── ConfigurationError          a setting, file or option can't be used as it is
    ├── SourceError                 a source can't be added, changed or found
    ├── UserError                   a user can't be added, changed or found (`audit.users`)
    ├── LogError                    the log can't be opened, read or trusted
    │   ├── LogNotThere             there is no log yet
    │   ├── LogAway                 the server that keeps the log can't be reached now; it may come back
    │   └── LogUnavailable          the log can't be written now; nothing was kept
    ├── ReadModelError              the read model can't be opened or written
    │   └── ReadModelOutdated       it was made by another version or with another configuration
    ├── SealError                   the seals can't be opened, written or trusted
    │   ├── ForkError               the log is not the one that was sealed; nothing is signed
    │   └── SignerUnavailable       no signature can be had now; what was to be signed is kept
    ├── FormError                   a captured file is not what it is said to be (`audit.append`)
    ├── ProcessError                a supervised process ended by itself (`audit.supervisor`)
    └── ProofError                  a note, an anchor, a receipt or a proof can't be read or proves nothing
        └── NotSealed               the event is recorded, but not sealed yet

A message says what couldn't be done, why, with the values, and the remedy if
there is one: it is shown to people as it is.
"""


class SimtrailError(Exception):
    """The root of the tree."""


class ConfigurationError(SimtrailError):
    """A setting, file or option can't be used as it is."""


class SourceError(SimtrailError):
    """A source can't be added, changed or found."""


class LogError(SimtrailError):
    """The log can't be opened, read or trusted."""


class LogNotThere(LogError):
    """There is no log yet."""


class LogAway(LogError):
    """The server that keeps the log can't be reached now. It may come back by itself."""


class LogUnavailable(LogError):
    """The log can't be written now; nothing of the batch counts as kept.

    ``passing`` says whether another append may follow: only where a later commit can't
    vouch falsely for what this one lost.
    """

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


class ReadModelError(SimtrailError):
    """The read model can't be opened or written."""


class ReadModelOutdated(ReadModelError):
    """The read model was made by another version, or with another configuration: a rebuild mends it."""


class ReadModelOld(ReadModelOutdated):
    """The read model was made by an earlier version, with this very configuration: the projector rebuilds it by itself."""


class SealError(SimtrailError):
    """The seals can't be opened, written or trusted."""


class ForkError(SealError):
    """The log, or the seals, are not what was anchored: to sign would be to sign a second history."""


class SignerUnavailable(SealError):
    """No signature can be had now. What was to be signed is stored, and nothing else of its size ever will be."""


class ProofError(SimtrailError):
    """A note, an anchor, a receipt or a proof can't be read, or does not prove what it should."""


class NotSealed(ProofError):
    """The event is recorded, but not sealed yet: there is a proof of it in about a second."""
