"""Stock stomp.py over TCP, in every version of STOMP."""

import unittest

from clients import Client, unique
from node import Node


def setUpModule():
    global node
    node = Node(FOOTBRIDGE_STOMP__HEART_BEAT_SEND="2s", FOOTBRIDGE_STOMP__HEART_BEAT_RECEIVE="2s")


def tearDownModule():
    assert node.stop() == 0


class Every:
    """What every version has."""

    version = None

    def connect(self, **options):
        return Client.tcp(node, self.version, **options)

    def test_subscribes_sends_unsubscribes_and_disconnects_with_receipts(self):
        client, topic = self.connect(), f"/topic/{unique('a')}"
        self.assertEqual(client.connected.headers["version"], self.version)
        client.subscribe(topic, "kept")
        client.subscribe(topic, "left")
        client.send(topic, "to both")
        both = {client.message().headers["subscription"] for _ in range(2)}
        self.assertEqual(both, {"kept", "left"})
        client.unsubscribe("left")
        client.send(topic, "ü to one", **{"content-type": "text/plain", "of": "mine"})
        client.send(topic, "last")
        one = client.message()
        self.assertEqual((one.body, one.headers["of"]), ("ü to one", "mine"))
        self.assertEqual(client.bodies(1), ["last"])
        client.disconnect()

    def test_what_is_acknowledged_is_gone_and_the_rest_goes_to_another(self):
        client, queue = self.connect(), f"/queue/{unique('q')}"
        client.subscribe(queue, "1", ack="client-individual")
        for body in ("first", "second"):
            client.send(queue, body)
        first, second = client.message(), client.message()
        self.assertEqual((first.body, second.body), ("first", "second"))
        client.receipt(lambda receipt: client.settle("ack", second, receipt=receipt))
        client.disconnect()

        other = self.connect()
        other.subscribe(queue, "1")
        again = other.message()
        self.assertEqual((again.body, again.headers["redelivered"]), ("first", "true"))
        other.send(queue, "last")
        self.assertEqual(other.bodies(1), ["last"])
        other.disconnect()

    def test_a_transaction_takes_effect_at_its_commit_and_not_at_all_if_aborted(self):
        client, queue = self.connect(), f"/queue/{unique('q')}"
        client.subscribe(queue, "1", ack="client-individual")
        aborted, committed = client.connection.begin(), client.connection.begin()
        client.connection.send(queue, "aborted", transaction=aborted)
        client.connection.send(queue, "committed", transaction=committed)
        client.send(queue, "one")
        client.send(queue, "two")
        one, two = client.message(), client.message()
        self.assertEqual((one.body, two.body), ("one", "two"))
        client.settle("ack", one, transaction=committed)
        client.settle("ack", two, transaction=aborted)
        client.connection.abort(aborted)
        client.receipt(lambda receipt: client.connection.commit(committed, receipt=receipt))
        self.assertEqual(client.bodies(1), ["committed"])
        client.disconnect()

        # Acknowledged is what was committed alone.
        other = self.connect()
        other.subscribe(queue, "1")
        self.assertEqual(sorted(other.bodies(2)), ["committed", "two"])
        other.send(queue, "last")
        self.assertEqual(other.bodies(1), ["last"])
        other.disconnect()

    def test_an_error_is_told_before_the_connection_ends(self):
        client = self.connect()
        client.connection.subscribe("/nowhere/a", id="1", headers={"receipt": "r"})
        error = client.error()
        self.assertIn("/nowhere/a", error.headers["message"])
        self.assertEqual(error.headers["receipt-id"], "r")

    def test_messages_go_between_tcp_and_websocket(self):
        client, websocket, topic = self.connect(), Client.websocket(node), f"/topic/{unique('a')}"
        client.subscribe(topic, "t")
        websocket.subscribe(topic, "w")
        client.send(topic, "from TCP")
        websocket.send(topic, "from a WebSocket")
        for receiver in (client, websocket):
            self.assertEqual(receiver.bodies(2), ["from TCP", "from a WebSocket"])
            receiver.disconnect()


class Later(Every):
    """What came with 1.1."""

    def test_what_is_refused_comes_again_or_is_dropped(self):
        client, queue = self.connect(), f"/queue/{unique('q')}"
        client.subscribe(queue, "1", ack="client-individual")
        client.send(queue, "once")
        client.settle("nack", client.message())
        again = client.message()
        self.assertEqual((again.body, again.headers["redelivered"]), ("once", "true"))
        client.settle("nack", again, requeue="false")
        client.send(queue, "last")
        self.assertEqual(client.bodies(1), ["last"])
        client.disconnect()

    def test_heart_beats_keep_an_idle_session_on_both_sides(self):
        # What is shown of the client is that it beats; it shall not mind a busy machine itself.
        client = self.connect(heartbeats=(2000, 2000), heart_beat_receive_scale=10)
        topic = f"/topic/{unique('a')}"
        # For longer than the node bears silence: it beats after 1.3 s, and closes after 4.7.
        for _ in range(5):
            client.beat()
        client.subscribe(topic, "1")
        client.send(topic, "still here")
        self.assertEqual(client.bodies(1), ["still here"])
        client.disconnect()


class Version10(Every, unittest.TestCase):
    version = "1.0"


class Version11(Later, unittest.TestCase):
    version = "1.1"


class Version12(Later, unittest.TestCase):
    version = "1.2"


if __name__ == "__main__":
    unittest.main()
