"""A real `footbridge dev`, a child of the test, on free ports of 127.0.0.1.

FOOTBRIDGE_BIN names the program; by default it is the workspace's release build.
"""

import os
import queue
import subprocess
import threading
from pathlib import Path

# How long a test waits for what should come at once, in seconds.
PATIENCE = 60

RELEASE = Path(__file__).resolve().parents[4] / "target/release/footbridge"


class Node:
    """Serves from its construction until `stop`."""

    def __init__(self, **variables):
        program = os.environ.get("FOOTBRIDGE_BIN", str(RELEASE))
        ports = ["--listen", "--stomp", "--grpc", "--admin"]
        arguments = [word for port in ports for word in (port, "127.0.0.1:0")]
        self._process = subprocess.Popen(
            [program, "dev", *arguments],
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            # In the order in which the node says them.
            self.websocket = self._said("WebSocket")
            self.stomp = self._said("STOMP")
        except BaseException:
            self.stop()
            raise

    def stop(self):
        """Stops the node as an operator would; its exit code."""
        self._process.terminate()
        return self._process.wait(PATIENCE)

    def _read(self):
        with self._process.stdout as output:
            for line in output:
                self._lines.put(line)
        self._lines.put(None)

    def _said(self, name):
        """Host and port of the URL after `name` where that begins a line."""
        while (line := self._lines.get(timeout=PATIENCE)) is not None:
            words = line.split()
            if words[:1] == [name]:
                host, port = words[1].split("/")[2].rsplit(":", 1)
                return host, int(port)
        raise RuntimeError(f"the node ended before it said {name}")
