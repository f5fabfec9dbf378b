"""What only RabbitMQ has: queues' arguments, exchanges, and subscriptions that are kept."""

from brokers import RABBITMQ, every, gateway
from clients import unique


class Arguments:
    """Headers that become the arguments of a queue."""

    def test_what_expires_is_a_dead_letter(self):
        queue, dead, client = unique("brief"), unique("dead"), self.connect()
        client.subscribe(f"/queue/{dead}", "dead")
        client.send(f"/queue/{queue}", "expired", **{
            "x-message-ttl": "1", "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
        letter = client.message()
        self.assertEqual((letter.body, letter.headers["subscription"]), ("expired", "dead"))

    def test_a_dead_letter_goes_to_an_exchange(self):
        queue, key, client = unique("brief"), unique("dead"), self.connect()
        client.subscribe(f"/exchange/amq.direct/{key}", "dead")
        client.send(f"/queue/{queue}", "expired", **{
            "x-message-ttl": "1", "x-dead-letter-exchange": "amq.direct",
            "x-dead-letter-routing-key": key})
        self.assertEqual(client.bodies(1), ["expired"])

    def test_a_queue_holds_no_more_than_it_may(self):
        queue, bounded = f"/queue/{unique('bounded')}", {"x-max-length": "2"}
        self.fill(queue, *"abcd", **bounded)
        client = self.connect()
        client.subscribe(queue, "1", **bounded)
        self.assertEqual(client.bodies(2), ["c", "d"])

    def test_the_most_urgent_comes_first(self):
        queue, client = f"/queue/{unique('urgent')}", self.connect()
        urgent = {"x-max-priority": "5"}
        for priority in (0, 3, 5, 3):
            client.send(queue, f"{priority}", priority=str(priority), **urgent)
        client.subscribe(queue, "1", **urgent)
        messages = [client.message() for _ in range(4)]
        self.assertEqual([message.body for message in messages], ["5", "3", "3", "0"])
        self.assertEqual(messages[0].headers["priority"], "5")

    def test_a_quorum_queue_gives_again(self):
        queue, client = f"/queue/{unique('quorum')}", self.connect()
        quorum = {"x-queue-type": "quorum"}
        client.subscribe(queue, "1", ack="client-individual", **quorum)
        client.send(queue, "a")
        client.settled("nack", client.message())
        again = client.message()
        self.assertEqual((again.body, again.headers["redelivered"]), ("a", "true"))
        client.settled("ack", again)
        other = self.connect()
        why = other.refusal(other.frame("SUBSCRIBE", id="1", destination=queue,
                                        **{"x-queue-type": "classic"}))
        self.assertRegex(why, "^PRECONDITION_FAILED - inequivalent arg 'x-queue-type'")

    def test_a_stream_is_read_without_an_ack(self):
        queue, client = f"/queue/{unique('stream')}", self.connect()
        stream = {"x-queue-type": "stream", "x-stream-offset": "first"}
        client.send(queue, "a", **stream)
        client.subscribe(queue, "1", **stream)
        client.send(queue, "b", **stream)
        self.assertEqual(client.bodies(2), ["a", "b"])

    def test_a_stream_is_read_from_anywhere_and_again(self):
        queue, stream = f"/queue/{unique('stream')}", {"x-queue-type": "stream"}
        self.fill(queue, *"abcde", **stream)
        for offset, bodies in [("first", "abcde"), ("offset=3", "de"), ("first", "abcde")]:
            client = self.connect()
            client.subscribe(queue, "1", ack="client", **{
                "prefetch-count": "10", "x-stream-offset": offset, **stream})
            messages = [client.message() for _ in bodies]
            self.assertEqual([message.body for message in messages], list(bodies))
            client.settled("ack", messages[-1])
            client.disconnect()


class Exchanges:
    """`/exchange/<name>/<key>`."""

    def test_a_direct_exchange_goes_by_the_key(self):
        one, other, client = unique("one"), unique("other"), self.connect()
        for ack in ("auto", "client-individual"):
            client.subscribe(f"/exchange/amq.direct/{one}", ack, ack=ack)
        client.send(f"/exchange/amq.direct/{other}", "for nobody")
        client.send(f"/exchange/amq.direct/{one}", "for both", kind="mine")
        messages = [client.message() for _ in range(2)]
        self.assertEqual({m.headers["subscription"] for m in messages},
                         {"auto", "client-individual"})
        for message in messages:
            self.assertEqual((message.body, message.headers["kind"]), ("for both", "mine"))
            self.assertEqual(message.headers["destination"], f"/exchange/amq.direct/{one}")

    def test_a_fanout_exchange_goes_to_all(self):
        clients = [self.connect(), self.connect(gateway(1))]
        for client in clients:
            client.subscribe("/exchange/amq.fanout", "1")
        clients[0].send("/exchange/amq.fanout/whatever", "to all")
        clients[1].send("/exchange/amq.fanout", "to all again")
        for client in clients:
            self.assertEqual(client.bodies(2), ["to all", "to all again"])

    def test_a_topic_exchange_goes_by_the_pattern_and_is_that_of_topics(self):
        root, client = unique("root"), self.connect()
        client.subscribe(f"/exchange/amq.topic/{root}.*.c", "pattern")
        client.send(f"/exchange/amq.topic/{root}.b.d", "no")
        client.send(f"/topic/{root}.b.c", "by topic")
        client.send(f"/exchange/amq.topic/{root}.x.c", "by exchange")
        self.assertEqual(client.bodies(2), ["by topic", "by exchange"])


class DurableSubscriptions:
    """Subscriptions to topics that are kept while their client is away."""

    def away(self):
        """A topic, and the id of a subscription to it whose client is gone."""
        topic, id, client = f"/topic/{unique('durable')}", unique("id"), self.connect()
        client.subscribe(topic, id, durable="true", **{"auto-delete": "false"})
        client.disconnect()
        return topic, id

    def back(self, topic, id, node=None):
        client = self.connect(node)
        client.subscribe(topic, id, durable="true", **{"auto-delete": "false"})
        return client

    def test_what_comes_meanwhile_is_kept(self):
        topic, id = self.away()
        self.fill(topic, "a", "b")
        client = self.back(topic, id, gateway(1))
        self.assertEqual(client.bodies(2), ["a", "b"])
        client.unsubscribe(id)
        self.fill(topic, "c")
        client.subscribe(topic, id, durable="true", **{"auto-delete": "false"})
        self.assertEqual(client.bodies(1), ["c"])

    def test_what_is_not_acknowledged_is_kept(self):
        topic, id = self.away()
        self.fill(topic, "a", "b")
        client = self.connect()
        client.subscribe(topic, id, ack="client-individual", durable="true",
                         **{"auto-delete": "false"})
        client.settled("ack", client.message())
        client.disconnect()
        again = self.back(topic, id).message()
        self.assertEqual((again.body, again.headers["redelivered"]), ("b", "true"))

    def test_unsubscribe_with_durable_deletes_it(self):
        topic, id = self.away()
        self.fill(topic, "a")
        client = self.connect()
        client.subscribe(topic, id, ack="client-individual", durable="true",
                         **{"auto-delete": "false"})
        self.assertEqual(client.bodies(1), ["a"])
        client.unsubscribe(id, durable="true")
        self.fill(topic, "b")
        client = self.back(topic, id)
        self.fill(topic, "c")
        self.assertEqual(client.bodies(1), ["c"])

    def test_those_of_one_id_share_it(self):
        topic, id = self.away()
        clients = [self.back(topic, id), self.back(topic, id, gateway(1))]
        self.fill(topic, *"abcdef")
        bodies = [body for client in clients for body in client.bodies(3)]
        self.assertEqual(sorted(bodies), list("abcdef"))

    def test_those_of_another_id_have_their_own(self):
        topic, id = self.away()
        self.fill(topic, "a")
        client = self.back(topic, unique("another"))
        self.fill(topic, "b")
        self.assertEqual(client.bodies(1), ["b"])
        self.assertEqual(self.back(topic, id).bodies(2), ["a", "b"])


def load_tests(loader, tests, pattern):
    return every(loader, (Arguments, RABBITMQ), (Exchanges, RABBITMQ),
                 (DurableSubscriptions, RABBITMQ))
