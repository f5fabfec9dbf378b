"""What a client can ask for and does not get: an ERROR that says why, with the frame's receipt-id, to
that session alone."""

from brokers import BOTH, EMBEDDED, RABBITMQ, every
from clients import unique

LONG = "n" * 256


class Refusals:
    """A table of frames, and what each is told."""

    # What it is called, the command, its headers, and words of the ERROR's message.
    FRAMES = []

    def setUp(self):
        self.witness, self.topic = self.connect(), f"/topic/{unique('witness')}"
        self.witness.subscribe(self.topic, "witness")

    def assert_undisturbed(self):
        self.witness.send(self.topic, "still here")
        self.assertEqual(self.witness.bodies(1), ["still here"])

    def assert_refused(self, client, ask, words):
        self.assertRegex(client.refusal(ask), words)
        self.assert_undisturbed()

    def test_each_is_told_what_is_wrong(self):
        for name, command, headers, words in self.FRAMES:
            with self.subTest(name):
                client = self.connect()
                self.assert_refused(client, client.frame(command, **headers), words)


class Everywhere(Refusals):

    FRAMES = [
        ("an unknown transaction", "COMMIT", {"transaction": "t"},
         'COMMIT names the transaction "t", which is not open'),
        ("the same in ABORT", "ABORT", {"transaction": "t"},
         'ABORT names the transaction "t", which is not open'),
        ("the same in SEND", "SEND", {"destination": "/topic/a", "transaction": "t"},
         'SEND names the transaction "t", which is not open'),
        ("a missing queue", "SUBSCRIBE", {"id": "1", "destination": "/amq/queue/no-such"},
         "NOT_FOUND - no queue 'no-such'"),
        ("a missing queue in SEND", "SEND", {"destination": "/amq/queue/no-such"},
         "no queue took the message"),
        ("a long name in SEND", "SEND", {"destination": f"/queue/{LONG}"},
         "is too long: its name has 256 bytes and may have 255"),
        ("a long name in SUBSCRIBE", "SUBSCRIBE", {"id": "1", "destination": f"/topic/{LONG}"},
         "is too long: its name has 256 bytes and may have 255"),
        ("a temp-queue elsewhere than in reply-to", "SUBSCRIBE",
         {"id": "1", "destination": "/temp-queue/t"}, "only be named in the reply-to header"),
        ("a prefetch-count that is none", "SUBSCRIBE",
         {"id": "1", "destination": "/queue/a", "prefetch-count": "many"}, "prefetch-count"),
        ("a flag that is none", "SUBSCRIBE",
         {"id": "1", "destination": "/queue/a", "durable": "perhaps"},
         "durable:perhaps, which should be true or false"),
        ("an argument that is no number", "SEND",
         {"destination": "/queue/a", "x-max-length": "few"},
         "x-max-length:few, which should be a whole number"),
    ]

    def test_a_transaction_is_begun_once(self):
        client = self.connect()
        client.connection.begin("t")
        self.assert_refused(client, client.frame("BEGIN", transaction="t"),
                            'transaction with the id "t" is open already')

    def test_too_many_transactions(self):
        client = self.connect()
        for _ in range(16):
            client.connection.begin()
        self.assert_refused(client, client.frame("BEGIN", transaction="one more"),
                            "more than 16 open transactions in one session")

    def test_too_many_subscriptions(self):
        client = self.connect()
        for number in range(99):
            client.connection.subscribe(self.topic, id=str(number))
        client.subscribe(self.topic, "the hundredth")
        ask = client.frame("SUBSCRIBE", destination=self.topic, id="one more")
        self.assert_refused(client, ask, "more than 100 subscriptions in one session")

    def test_a_message_beyond_the_limit(self):
        for size in (65_537, 200_000):
            with self.subTest(size=size):
                client = self.connect()
                ask = lambda receipt: client.connection.send(
                    self.topic, "x" * size, receipt=receipt)
                self.assert_refused(client, ask, "65536 bytes")

    def test_a_queue_that_is_there_and_different(self):
        queue, client, other = f"/queue/{unique('made')}", self.connect(), self.connect()
        client.subscribe(queue, "1", **{"auto-delete": "true"})
        ask = other.frame("SUBSCRIBE", destination=queue, id="1", **{"auto-delete": "false"})
        self.assert_refused(other, ask, "^PRECONDITION_FAILED - inequivalent arg 'auto_delete'")
        client.send(queue, "as it was")
        self.assertEqual(client.bodies(1), ["as it was"])

    def test_a_locked_queue(self):
        queue, owner = f"/queue/{unique('locked')}", self.connect()
        owner.subscribe(queue, "1", exclusive="true")
        for command, headers in [("SUBSCRIBE", {"id": "1"}), ("SEND", {}),
                                 ("SUBSCRIBE", {"id": "1", "exclusive": "true"})]:
            with self.subTest(command=command, headers=headers):
                other = self.connect()
                self.assert_refused(other, other.frame(command, destination=queue, **headers),
                                    "RESOURCE_LOCKED - cannot obtain exclusive access")
        owner.send(queue, "its own")
        self.assertEqual(owner.bodies(1), ["its own"])


class OverRabbitMq(Refusals):

    FRAMES = [
        ("a missing exchange in SEND", "SEND", {"destination": "/exchange/no-such/key"},
         "NOT_FOUND - no exchange 'no-such'"),
        ("a missing exchange in SUBSCRIBE", "SUBSCRIBE",
         {"id": "1", "destination": "/exchange/no-such/key"}, "NOT_FOUND - no exchange 'no-such'"),
        ("the same with a queue of its own", "SUBSCRIBE",
         {"id": "1", "destination": "/exchange/no-such/key", "ack": "client"},
         "NOT_FOUND - no exchange 'no-such'"),
        ("an expiration that is no number", "SEND",
         {"destination": "/queue/a", "expiration": "soon"},
         "header expiration must be a whole number of milliseconds"),
        ("a priority that is no number", "SEND",
         {"destination": "/topic/a", "priority": "high"}, "header priority must be 0 to 255"),
        ("a priority that is too much", "SEND",
         {"destination": "/topic/a", "priority": "256"}, "header priority must be 0 to 255"),
        ("CC", "SEND", {"destination": "/topic/a", "CC": "b"}, "header CC is RabbitMQ's own"),
        ("BCC", "SEND", {"destination": "/queue/a", "BCC": "b"}, "header BCC is RabbitMQ's own"),
        ("the name of somebody else", "SEND",
         {"destination": "/queue/a", "user-id": "somebody"}, "header user-id must be"),
        ("an offset that is none", "SUBSCRIBE",
         {"id": "1", "destination": "/queue/a", "x-stream-offset": "tomorrow"},
         "x-stream-offset:tomorrow, which should be first, last, next"),
    ]

    def test_arguments_of_a_queue_that_is_there_without(self):
        queue = f"/queue/{unique('plain')}"
        self.fill(queue, "kept")
        for command, headers in [("SUBSCRIBE", {"id": "1"}), ("SEND", {})]:
            with self.subTest(command=command):
                client = self.connect()
                ask = client.frame(command, destination=queue, **{"x-max-length": "5"}, **headers)
                self.assert_refused(client, ask,
                                    "^PRECONDITION_FAILED - inequivalent arg 'x-max-length'")
        self.assert_left(queue, ("kept", False))

    def test_a_message_that_a_full_queue_refuses(self):
        queue, client = f"/queue/{unique('full')}", self.connect()
        full = {"x-max-length": "1", "x-overflow": "reject-publish"}
        client.send(queue, "fits", **full)
        self.assert_refused(client, client.frame("SEND", destination=queue, **full),
                            "the broker refused the message|the broker has no room")


class OverTheEmbeddedBroker(Refusals):
    """What it does not have, it says by the name that the client used."""

    FRAMES = [
        ("an exchange", "SEND", {"destination": "/exchange/amq.direct/key"},
         "exchange destinations are not available on this broker"),
        ("an argument", "SUBSCRIBE", {"id": "1", "destination": "/queue/a", "x-max-length": "1"},
         "x-max-length is not available on this broker"),
        ("a durable subscription", "SUBSCRIBE",
         {"id": "1", "destination": "/topic/a", "durable": "true"},
         "durable:true is not available on this broker"),
    ]


def load_tests(loader, tests, pattern):
    return every(loader, (Everywhere, BOTH), (OverRabbitMq, RABBITMQ),
                 (OverTheEmbeddedBroker, EMBEDDED))
