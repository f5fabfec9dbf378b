"""ACK and NACK in the form of every version, and what becomes of what was not acknowledged."""

from brokers import BOTH, RABBITMQ, every
from clients import unique


class Modes:
    """auto, client and client-individual."""

    def held(self, ack, bodies, **headers):
        """A queue with those messages, and a client that got them all."""
        queue, client = f"/queue/{unique('held')}", self.connect()
        self.fill(queue, *bodies)
        client.subscribe(queue, "1", ack=ack, **headers)
        messages = [client.message() for _ in bodies]
        self.assertEqual([message.body for message in messages], list(bodies))
        for message in messages:
            self.assertNotIn("redelivered", message.headers)
        return queue, client, messages

    def test_auto_needs_no_ack(self):
        queue, client, _ = self.held("auto", "abc")
        client.disconnect()
        self.assert_left(queue)

    def test_an_ack_of_client_covers_what_came_before(self):
        queue, client, messages = self.held("client", "abcd")
        client.settled("ack", messages[2])
        client.disconnect()
        self.assert_left(queue, ("d", True))

    def test_an_ack_of_client_covers_its_own_subscription_only(self):
        queue, client, _ = self.held("client", "a")
        other = f"/queue/{unique('other')}"
        client.subscribe(other, "2", ack="client")
        client.send(other, "b")
        client.settled("ack", client.message())
        client.disconnect()
        self.assert_left(queue, ("a", True))
        self.assert_left(other)

    def test_a_nack_of_client_covers_what_came_before(self):
        queue, client, messages = self.held("client", "abcd")
        client.settled("nack", messages[2], requeue="false")
        client.disconnect()
        self.assert_left(queue, ("d", True))

    def test_an_ack_of_client_individual_covers_itself_only(self):
        queue, client, messages = self.held("client-individual", "abcd")
        client.settled("ack", messages[2])
        client.settled("ack", messages[0])
        client.disconnect()
        self.assert_left(queue, ("b", True), ("d", True))

    def test_a_nack_gives_back_or_drops(self):
        queue, client, [a, b, c, d] = self.held("client-individual", "abcd")
        client.settled("nack", a)
        again = client.message()
        self.assertEqual((again.body, again.headers["redelivered"]), ("a", "true"))
        client.settled("nack", b, requeue="true")
        again_b = client.message()
        self.assertEqual((again_b.body, again_b.headers["redelivered"]), ("b", "true"))
        client.settled("nack", c, requeue="false")
        client.settled("ack", d)
        client.settled("ack", again)
        client.disconnect()
        self.assert_left(queue, ("b", True))

    def test_what_is_not_acknowledged_goes_back_by_disconnect(self):
        queue, client, _ = self.held("client", "abc")
        client.disconnect()
        self.assert_left(queue, ("a", True), ("b", True), ("c", True))

    def test_what_is_not_acknowledged_goes_back_when_the_connection_is_cut(self):
        queue, client, [a, *_] = self.held("client-individual", "abc")
        client.settled("ack", a)
        other = self.connect()
        other.subscribe(queue, "1", ack="client-individual")
        client.cut()
        again = [other.message() for _ in range(2)]
        self.assertEqual([message.body for message in again], ["b", "c"])
        self.assertEqual([message.headers["redelivered"] for message in again], ["true", "true"])

    def test_what_is_not_acknowledged_goes_back_by_unsubscribe(self):
        queue, client, [a, _] = self.held("client-individual", "ab")
        client.unsubscribe("1")
        # It may have crossed the UNSUBSCRIBE.
        client.settled("ack", a)
        client.disconnect()
        self.assert_left(queue, ("a", True), ("b", True))

    def test_a_topic_that_is_acknowledged_gives_again_what_is_refused(self):
        topic, client, other = f"/topic/{unique('refused')}", self.connect(), self.connect()
        client.subscribe(topic, "1", ack="client-individual")
        other.subscribe(topic, "1")
        client.send(topic, "a")
        client.settled("nack", client.message())
        again = client.message()
        self.assertEqual((again.body, again.headers["redelivered"]), ("a", "true"))
        client.settled("nack", again, requeue="false")
        client.send(topic, "b")
        self.assertEqual(client.bodies(1), ["b"])
        self.assertEqual(other.bodies(2), ["a", "b"])


class DeadLetters:
    """What is refused for good goes where the queue's dead letters go."""

    def test_what_is_dropped_is_a_dead_letter(self):
        queue, dead = unique("queue"), unique("dead")
        of_dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
        client = self.connect()
        client.subscribe(f"/queue/{dead}", "dead")
        client.subscribe(f"/queue/{queue}", "queue", ack="client-individual", **of_dead)
        client.send(f"/queue/{queue}", "bad")
        bad = client.message()
        self.assertEqual(bad.headers["subscription"], "queue")
        client.settled("nack", bad, requeue="false")
        letter = client.message()
        self.assertEqual((letter.headers["subscription"], letter.body), ("dead", "bad"))


class Mistakes:
    """An ACK or NACK of nothing is an error, and harms nobody else."""

    NOTHING = "nothing to acknowledge under .* settled already, or its subscription has ack:auto"

    def refused(self, client, message, verb="ack", **forged):
        message.headers = {**message.headers, **forged}
        ask = lambda receipt: client.settle(verb, message, receipt=receipt)
        self.assertRegex(client.refusal(ask), self.NOTHING)

    def holder(self):
        """A client that holds a message."""
        queue, client = f"/queue/{unique('mine')}", self.connect()
        client.subscribe(queue, "1", ack="client-individual")
        client.send(queue, "mine")
        return queue, client, client.message()

    def test_what_nobody_was_given(self):
        for verb in ("ack", "nack"):
            for id in ("nonsense", "0.7.x", "T_1@@session-x@@1", "0" * 26):
                with self.subTest(verb=verb, id=id):
                    _, client, message = self.holder()
                    self.refused(client, message, verb, **{"ack": id, "message-id": id})

    def test_what_another_session_holds(self):
        queue, owner, message = self.holder()
        _, thief, _ = self.holder()
        self.refused(thief, message)
        owner.settled("nack", message)
        again = owner.message()
        self.assertEqual((again.body, again.headers["redelivered"]), ("mine", "true"))
        owner.settled("ack", again)
        owner.disconnect()
        self.assert_left(queue)

    def test_what_is_settled_already(self):
        _, client, message = self.holder()
        client.settled("ack", message)
        self.refused(client, message)

    def test_what_needs_no_ack(self):
        queue, client = f"/queue/{unique('auto')}", self.connect()
        client.subscribe(queue, "1")
        client.send(queue, "auto")
        message = client.message()
        self.assertNotIn("ack", message.headers)
        self.refused(client, message, ack=message.headers["message-id"])


def load_tests(loader, tests, pattern):
    return every(loader, (Modes, BOTH), (DeadLetters, RABBITMQ), (Mistakes, BOTH))
