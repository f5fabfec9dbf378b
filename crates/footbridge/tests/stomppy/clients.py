"""Clients of stomp.py, one class for each version of STOMP, that keep what they are told.

No test sleeps: it waits for what comes, and fails after PATIENCE. That something does not come is
shown by something later in the same order that does.
"""

import itertools
import queue

import stomp

from node import PATIENCE

CONNECTIONS = {
    "1.0": stomp.StompConnection10,
    "1.1": stomp.StompConnection11,
    "1.2": stomp.StompConnection12,
}

_numbers = itertools.count(1)


def unique(name):
    """A name that no other test uses."""
    return f"{name}-{next(_numbers)}"


class Client(stomp.ConnectionListener):
    """A connected client."""

    def __init__(self, connection, version):
        self.version = version
        self.connection = connection
        self._connected = queue.Queue()
        self._messages = queue.Queue()
        self._receipts = queue.Queue()
        self._beats = queue.Queue()
        self._errors = queue.Queue()
        self._disconnected = queue.Queue()
        connection.set_listener("", self)
        connection.connect("ann", "secret", wait=True)
        self.connected = self._connected.get(timeout=PATIENCE)

    @classmethod
    def tcp(cls, node, version, **options):
        """Over TCP, without a second try if it fails."""
        connection = CONNECTIONS[version]([node.stomp], reconnect_attempts_max=1, **options)
        return cls(connection, version)

    @classmethod
    def websocket(cls, node):
        """STOMP 1.2 over a WebSocket."""
        return cls(stomp.WSStompConnection([node.websocket], ws_path="/ws"), "1.2")

    def on_connected(self, frame):
        self._connected.put(frame)

    def on_message(self, frame):
        self._messages.put(frame)

    def on_receipt(self, frame):
        self._receipts.put(frame.headers["receipt-id"])

    def on_heartbeat(self):
        self._beats.put(None)

    def on_error(self, frame):
        self._errors.put(frame)
        # Whoever waits for a receipt need not wait for long.
        self._receipts.put(f"ERROR {frame.headers['message']}")

    def on_disconnected(self):
        self._disconnected.put(None)

    def message(self):
        """The next MESSAGE."""
        return self._messages.get(timeout=PATIENCE)

    def bodies(self, count):
        """The bodies of so many MESSAGEs."""
        return [self.message().body for _ in range(count)]

    def beat(self):
        """Waits for a heart-beat of the server."""
        self._beats.get(timeout=PATIENCE)

    def error(self):
        """The ERROR, after which the connection ends."""
        frame = self._errors.get(timeout=PATIENCE)
        self._disconnected.get(timeout=PATIENCE)
        return frame

    def receipts(self, count):
        """The ids of so many RECEIPTs."""
        return [self._receipts.get(timeout=PATIENCE) for _ in range(count)]

    def receipt(self, ask):
        """Has `ask` send a frame with a receipt, and waits for that."""
        receipt = unique("receipt")
        ask(receipt)
        [got] = self.receipts(1)
        assert got == receipt, f"{got} instead of {receipt}"

    def refusal(self, ask):
        """Has `ask` send a frame with a receipt; what the ERROR says that comes instead."""
        receipt = unique("receipt")
        ask(receipt)
        error = self.error()
        assert error.headers["receipt-id"] == receipt, f"{error} instead of {receipt}"
        return error.headers["message"]

    def frame(self, command, **headers):
        """Has a frame sent with a receipt, as `receipt` and `refusal` ask for."""
        return lambda receipt: self.connection.send_frame(command, {**headers, "receipt": receipt})

    def subscribe(self, destination, id, ack="auto", **headers):
        self.receipt(lambda receipt: self.connection.subscribe(
            destination, id=id, ack=ack, headers={**headers, "receipt": receipt}))

    def send(self, destination, body, **headers):
        """Sends, and waits until the node has taken it."""
        self.receipt(lambda receipt: self.connection.send(
            destination, body, receipt=receipt, **headers))

    def unsubscribe(self, id, **headers):
        self.receipt(lambda receipt: self.connection.unsubscribe(
            id=id, headers={**headers, "receipt": receipt}))

    def settle(self, verb, message, **options):
        """Sends ACK or NACK for a MESSAGE in the way of the version."""
        headers = message.headers
        named = {
            "1.0": lambda: [headers["message-id"]],
            "1.1": lambda: [headers["message-id"], headers["subscription"]],
            "1.2": lambda: [headers["ack"]],
        }[self.version]()
        if (self.version, verb) == ("1.0", "nack"):
            # STOMP 1.0 has no NACK and neither has its client; RabbitMQ's plugin takes it.
            self.connection.send_frame("NACK", {"message-id": named[0], **options})
        else:
            getattr(self.connection, verb)(*named, **options)

    def settled(self, verb, message, **options):
        """As `settle`, and waits until the node has done it."""
        self.receipt(lambda receipt: self.settle(verb, message, receipt=receipt, **options))

    def disconnect(self):
        """Says DISCONNECT and waits for its receipt."""
        self.receipt(self.connection.disconnect)

    def cut(self):
        """Ends the connection without a word."""
        self.connection.transport.disconnect_socket()
