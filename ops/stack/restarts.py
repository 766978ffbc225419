"""How long to wait before something that died is started again. Pure."""

_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds before the 1st, 2nd, ... restart
_STEADY = 30.0  # seconds of life after which a death counts as the first again


class Restarts:
    """The deaths of one process in a row."""

    def __init__(self) -> None:
        self.deaths = 0

    def pause(self, lived: float) -> float:
        """Count a death after so many seconds of life; return the seconds until the restart."""
        self.deaths = 1 if lived > _STEADY else self.deaths + 1
        return _PAUSES[min(self.deaths, len(_PAUSES)) - 1]
