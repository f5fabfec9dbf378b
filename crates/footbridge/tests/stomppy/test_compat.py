"""compat = "rabbitmq": what a client that was written against RabbitMQ's STOMP plugin looks at."""

from brokers import PLUGINS_MANNERS, every
from clients import unique


class PluginsManners:

    def test_a_message_says_that_it_is_not_redelivered_and_where_it_went(self):
        name, client = unique("compat"), self.connect()
        for number, (subscribed, sent, shown) in enumerate([
            (f"/queue/{name}", f"/queue/{name}", f"/queue/{name}"),
            (f"/topic/{name}/*", f"/topic/{name}/b", f"/topic/{name}.b"),
            (f"/exchange/amq.topic/{name}", f"/topic/{name}", f"/topic/{name}"),
            (f"/exchange/amq.direct/{name}",) * 3,
        ]):
            client.subscribe(subscribed, str(number))
            client.send(sent, "x")
            headers = client.message().headers
            self.assertEqual((headers["redelivered"], headers["destination"]), ("false", shown))
            client.unsubscribe(str(number))

    def test_an_error_has_the_plugins_title(self):
        for command, headers, title, words in [
            ("SEND", {"destination": "/nope/a"}, "Unknown destination",
             "'/nope/a' is not a valid destination"),
            ("SEND", {"destination": "/queue/a/b"}, "Invalid destination", "'/queue/a/b'"),
            ("SUBSCRIBE", {"id": "1", "destination": "/temp-queue/t"}, "Invalid destination",
             "'/temp-queue/t' is not a valid destination"),
            ("SUBSCRIBE", {"id": "1", "destination": "/amq/queue/no-such"}, "not_found",
             "NOT_FOUND - no queue 'no-such' in vhost"),
            ("SUBSCRIBE", {"id": "1", "destination": "/exchange/no-such/k"}, "not_found",
             "NOT_FOUND - no exchange 'no-such' in vhost"),
            ("SUBSCRIBE", {"id": "1", "destination": "/queue/a", "ack": "maybe"},
             "Processing error", "ack:maybe"),
            ("COMMIT", {"transaction": "t"}, "Bad transaction", "t"),
            ("ACK", {"id": "x", "message-id": "x", "subscription": "1"},
             "Subscription not found", "nothing to acknowledge"),
        ]:
            with self.subTest(title=title, headers=headers):
                client = self.connect()
                client.frame(command, **headers)("r")
                error = client.error()
                self.assertEqual(error.headers["message"], title)
                self.assertEqual(error.headers["version"], "1.0,1.1,1.2")
                self.assertIn(words, error.body)

    def test_a_queue_that_is_there_and_different(self):
        queue = f"/queue/{unique('made')}"
        self.fill(queue, "kept")
        client = self.connect()
        ask = client.frame("SUBSCRIBE", destination=queue, id="1", **{"x-max-length": "5"})
        self.assertEqual(client.refusal(ask), "precondition_failed")
        self.assert_left(queue, ("kept", False))

    def test_an_ack_covers_the_session(self):
        one, other, client = f"/queue/{unique('one')}", f"/queue/{unique('two')}", self.connect()
        for id, queue in (("1", one), ("2", other)):
            client.subscribe(queue, id, ack="client")
            client.send(queue, "a")
            last = client.message()
        client.settled("ack", last)
        client.disconnect()
        self.assert_left(one)
        self.assert_left(other)

    def test_a_durable_subscription_goes_with_its_client_unless_it_says_otherwise(self):
        for headers, expected in [({}, ["new"]), ({"auto-delete": "false"}, ["old", "new"])]:
            with self.subTest(headers=headers):
                topic, client = f"/topic/{unique('durable')}", self.connect()
                client.subscribe(topic, "1", durable="true", **headers)
                client.unsubscribe("1")
                client.send(topic, "old")
                client.subscribe(topic, "1", durable="true", **headers)
                client.send(topic, "new")
                self.assertEqual(client.bodies(len(expected)), expected)


def load_tests(loader, tests, pattern):
    return every(loader, (PluginsManners, PLUGINS_MANNERS))
