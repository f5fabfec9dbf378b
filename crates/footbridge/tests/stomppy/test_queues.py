"""Queues, by every name and in every version: what a client of RabbitMQ's STOMP plugin does with
them, over the embedded broker and over RabbitMQ."""

from brokers import BOTH, RABBITMQ, every, gateway
from clients import unique


class Names:
    """The spellings of a queue."""

    def test_a_bare_name_is_a_queue(self):
        name, client = unique("bare"), self.connect()
        client.subscribe(name, "bare")
        client.send(f"/queue/{name}", "to the queue")
        message = client.message()
        self.assertEqual((message.body, message.headers["destination"]), ("to the queue", name))
        client.unsubscribe("bare")
        client.subscribe(f"/queue/{name}", "queue")
        client.send(name, "to the bare name")
        message = client.message()
        self.assertEqual(message.body, "to the bare name")
        self.assertEqual(message.headers["destination"], f"/queue/{name}")

    def test_a_queue_that_is_there_is_reached_without_declaring_it(self):
        name, client = unique("there"), self.connect()
        self.fill(f"/queue/{name}", "kept")
        client.subscribe(f"/amq/queue/{name}", "1")
        client.send(f"/amq/queue/{name}", "sent")
        self.assertEqual(client.bodies(2), ["kept", "sent"])
        client.disconnect()

    def test_a_queue_that_is_not_there_is_not_made(self):
        name = unique("missing")
        reader, sender = self.connect(), self.connect()
        why = reader.refusal(reader.frame("SUBSCRIBE", destination=f"/amq/queue/{name}", id="1"))
        self.assertRegex(why, f"^NOT_FOUND - no queue '{name}'")
        why = sender.refusal(sender.frame("SEND", destination=f"/amq/queue/{name}"))
        self.assertRegex(why, "no queue took the message")

    def test_what_comes_after_the_receipt_of_a_subscribe_is_not_missed(self):
        sender, receiver = self.connect(), self.connect()
        for number in range(20):
            topic = f"/topic/{unique('next')}"
            receiver.subscribe(topic, str(number))
            sender.connection.send(topic, str(number))
            self.assertEqual(receiver.bodies(1), [str(number)])


class Consumers:
    """Those who share a queue, and how much each of them holds."""

    def test_a_consumer_holds_no_more_than_its_prefetch_count(self):
        queue, one, other = f"/queue/{unique('prefetch')}", self.connect(), self.connect()
        self.fill(queue, "a", "b", "c", "d")
        one.subscribe(queue, "1", ack="client-individual", **{"prefetch-count": "2"})
        a, b = one.message(), one.message()
        self.assertEqual([a.body, b.body], ["a", "b"])
        other.subscribe(queue, "1", ack="client-individual", **{"prefetch-count": "1"})
        self.assertEqual(other.bodies(1), ["c"])
        one.settled("ack", b)
        self.assertEqual(one.bodies(1), ["d"])

    def test_each_message_of_a_queue_goes_to_one_consumer(self):
        queue, clients = f"/queue/{unique('shared')}", [self.connect(), self.connect()]
        for client in clients:
            client.subscribe(queue, "1", ack="client-individual", **{"prefetch-count": "3"})
        self.fill(queue, *"abcdef")
        bodies = [body for client in clients for body in client.bodies(3)]
        self.assertEqual(sorted(bodies), list("abcdef"))

    def test_a_consumer_who_is_silent_holds_up_nobody(self):
        queue, other = f"/queue/{unique('silent')}", f"/queue/{unique('lively')}"
        silent, lively = self.connect(), self.connect()
        silent.subscribe(queue, "1", ack="client", **{"prefetch-count": "5"})
        silent.subscribe(other, "2", ack="client", **{"prefetch-count": "5"})
        sender = self.connect()
        bodies = [str(number) for number in range(60)]
        for body in bodies[:10]:
            sender.send(queue, body)
            sender.send(other, body)
        held = [silent.message() for _ in range(10)]
        self.assertEqual(len({message.headers["message-id"] for message in held}), 10)
        lively.subscribe(queue, "1")
        lively.subscribe(other, "2")
        for body in bodies[10:]:
            sender.send(queue, body)
            sender.send(other, body)
        got = [lively.message() for _ in range(110)]
        for id in ("1", "2"):
            mine = [got.body for got in got if got.headers["subscription"] == id]
            self.assertEqual(mine, bodies[5:])

    def test_an_exclusive_queue_is_its_sessions_alone(self):
        queue, owner, other = f"/queue/{unique('own')}", self.connect(), self.connect()
        owner.subscribe(queue, "1", exclusive="true")
        why = other.refusal(other.frame("SUBSCRIBE", destination=queue, id="1"))
        self.assertRegex(why, "^RESOURCE_LOCKED - cannot obtain exclusive access to locked queue")
        owner.send(queue, "to itself")
        self.assertEqual(owner.bodies(1), ["to itself"])


class Replies:
    """`reply-to:/temp-queue/...`: a queue of the session's own."""

    def answers(self, asking, answering):
        """Two requests of one client, which another answers by their `reply-to`."""
        queue = f"/queue/{unique('requests')}"
        answering.subscribe(queue, "requests")
        for question in ("one", "two"):
            asking.send(queue, question,
                        **{"reply-to": "/temp-queue/answers", "correlation-id": question})
            request = answering.message()
            reply_to = request.headers["reply-to"]
            self.assertRegex(reply_to, "^/reply-queue/.")
            answering.send(reply_to, f"answer to {request.body}",
                           **{"correlation-id": request.headers["correlation-id"]})
            reply = asking.message()
            self.assertEqual(reply.body, f"answer to {question}")
            self.assertEqual(reply.headers["subscription"], "/temp-queue/answers")
            self.assertEqual(reply.headers["correlation-id"], question)

    def test_a_request_is_answered(self):
        self.answers(self.connect(), self.connect())

    def test_an_answer_to_who_has_gone_is_dropped(self):
        queue, asking, answering = f"/queue/{unique('asked')}", self.connect(), self.connect()
        answering.subscribe(queue, "1")
        asking.send(queue, "?", **{"reply-to": "/temp-queue/answers"})
        reply_to = answering.message().headers["reply-to"]
        asking.disconnect()
        answering.send(reply_to, "too late")
        answering.send(queue, "last")
        self.assertEqual(answering.bodies(1), ["last"])

    def test_nobody_else_reads_the_answers(self):
        queue, asking, other = f"/queue/{unique('asked')}", self.connect(), self.connect()
        other.subscribe(queue, "1")
        asking.send(queue, "?", **{"reply-to": "/temp-queue/answers"})
        reply_to = other.message().headers["reply-to"]
        why = other.refusal(other.frame("SUBSCRIBE", destination=reply_to, id="2"))
        self.assertRegex(why, "^RESOURCE_LOCKED")


class RepliesBetweenNodes(Replies):
    """The same, where the answer comes from another node."""

    def test_a_request_is_answered(self):
        self.answers(self.connect(), self.connect(gateway(1)))


def load_tests(loader, tests, pattern):
    return every(loader, (Names, BOTH), (Consumers, BOTH), (Replies, BOTH),
                 (RepliesBetweenNodes, RABBITMQ))
