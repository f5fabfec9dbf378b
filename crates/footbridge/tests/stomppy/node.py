"""Real servers, children of the tests, on free ports of 127.0.0.1.

FOOTBRIDGE_BIN names the program under test, by default the workspace's release build; TESTKIT_BIN
the one that starts RabbitMQ and Redis, by default the workspace's debug build.
"""

import os
import queue
import signal
import subprocess
import threading
from pathlib import Path

# How long a test waits for what should come at once, in seconds.
PATIENCE = 60

TARGET = Path(__file__).resolve().parents[4] / "target"
ANY_PORT = "127.0.0.1:0"


class Process:
    """Serves from its construction until `stop`."""

    def __init__(self, variable, build, *arguments, **variables):
        program = os.environ.get(variable, str(TARGET / build))
        self._process = subprocess.Popen(
            [program, *arguments],
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self._listen()
        except BaseException:
            self.stop()
            raise

    def stop(self):
        """Stops the process as an operator would; its exit code."""
        self._process.terminate()
        return self._process.wait(PATIENCE)

    def _listen(self):
        """Reads where it listens."""

    def _read(self):
        with self._process.stdout as output:
            for line in output:
                self._lines.put(line)
        self._lines.put(None)

    def _line(self):
        """The next line of its output."""
        if (line := self._lines.get(timeout=PATIENCE)) is None:
            raise RuntimeError("the process ended before it said where it listens")
        return line

    def _said(self, name):
        """Host and port of the URL after `name` where that begins a line."""
        while True:
            words = self._line().split()
            if words[:1] == [name]:
                host, port = words[1].split("/")[2].rsplit(":", 1)
                return host, int(port)


class Node(Process):
    """A `footbridge dev`."""

    COMMAND = ["dev", "--listen", ANY_PORT, "--stomp", ANY_PORT, "--grpc", ANY_PORT]
    STORE = "memory"

    def __init__(self, **variables):
        command = [*self.COMMAND, "--admin", ANY_PORT]
        # Nothing of one test waits for another.
        variables = {"FOOTBRIDGE_INBOX__STORE": self.STORE, **variables}
        super().__init__("FOOTBRIDGE_BIN", "release/footbridge", *command, **variables)

    def _listen(self):
        # In the order in which the node says them.
        self.websocket = self._said("WebSocket")
        self.stomp = self._said("STOMP")


class Gateway(Node):
    """A `footbridge gateway` that lets everybody do everything."""

    COMMAND = ["gateway", "--listen", ANY_PORT]
    STORE = "redis"

    def __init__(self, rabbitmq, redis, **variables):
        super().__init__(
            FOOTBRIDGE_RABBITMQ__URIS=rabbitmq.uri,
            FOOTBRIDGE_REDIS__URLS=redis.uri,
            FOOTBRIDGE_ACCESS__RULES="open",
            FOOTBRIDGE_GATEWAY__STOMP_LISTEN=ANY_PORT,
            **variables,
        )


class Server(Process):
    """A RabbitMQ or Redis with its own ports and directory."""

    def __init__(self, name):
        super().__init__("TESTKIT_BIN", "debug/testkit", name)

    def stop(self):
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(PATIENCE)

    def _listen(self):
        self.uri = self._line().split()[0]
