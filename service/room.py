"""The memory for requests that haven't been checked yet: if it runs short, uploads are refused or wait."""

from collections.abc import Callable

from service.connections import Connection, Connections, Phase
from service.lane import LARGE
from service.outbox import Budget

SMALL = 4_096  # bytes of a request that is always admitted; the number of connections is bounded too


class Room:
    """limit: bytes. refuse: refuses a connection's request, for a reason. pause: pauses reading, or resumes it."""

    def __init__(
        self,
        limit: int,
        connections: Connections,
        refuse: Callable[[Connection, str], None],
        pause: Callable[[Connection, bool], None],
    ) -> None:
        self.budget, self._connections, self._refuse, self._pause = Budget(limit), connections, refuse, pause
        self._waiting: list[Connection] = []

    @property
    def awaited(self) -> bool:
        """Say whether uploads wait for resume()."""
        return bool(self._waiting)

    def make(self, connection: Connection) -> None:
        """If too many bytes are in memory, refuse the greediest uploads, or pause this one."""
        self._refuse_greediest()
        if self.budget.exceeded and connection.phase is Phase.BODY and connection.held > LARGE:
            self._pause(connection, True)
            self._waiting.append(connection)

    def admits(self, connection: Connection) -> bool:
        """Say whether a complete request can be kept until it is checked."""
        if connection.held <= SMALL:
            return True
        self._refuse_greediest()
        return not self.budget.exceeded

    def resume(self) -> None:
        """Resume the paused uploads."""
        waiting, self._waiting = self._waiting, []
        for connection in waiting:
            if connection.phase is Phase.BODY:
                self._pause(connection, False)

    def _refuse_greediest(self) -> None:
        """Refuse the uploads that have held most for longest."""
        while self.budget.exceeded and self._connections.unfinished() > self.budget.limit // 2:
            greediest = self._connections.greediest()
            if greediest is None:
                break
            self._refuse(greediest, "memory")
