"""BEGIN, COMMIT and ABORT around SEND, ACK and NACK."""

from brokers import BOTH, every
from clients import unique


class Transactions:

    def setUp(self):
        self.queue = f"/queue/{unique('transactions')}"
        self.client = self.connect()

    def holding(self, *bodies):
        """Subscribes, and the messages with those bodies."""
        self.fill(self.queue, *bodies)
        self.client.subscribe(self.queue, "1", ack="client-individual")
        messages = [self.client.message() for _ in bodies]
        self.assertEqual([message.body for message in messages], list(bodies))
        return messages

    def committed(self, transaction):
        self.client.receipt(lambda receipt: self.client.connection.commit(
            transaction, receipt=receipt))

    def aborted(self, transaction):
        self.client.receipt(lambda receipt: self.client.connection.abort(
            transaction, receipt=receipt))

    def test_a_commit_is_receipted_after_all_that_it_did(self):
        [held] = self.holding("held")
        connection = self.client.connection
        transaction = connection.begin(receipt="begun")
        self.assertEqual(self.client.receipts(1), ["begun"])
        for number in range(10):
            connection.send(self.queue, str(number), transaction=transaction, receipt=f"s{number}")
        self.client.settle("ack", held, transaction=transaction, receipt="ack")
        # Nothing of it is done before.
        self.client.send(self.queue, "meanwhile")
        self.assertEqual(self.client.bodies(1), ["meanwhile"])
        connection.commit(transaction, receipt="committed")
        *others, last = self.client.receipts(12)
        self.assertEqual(last, "committed")
        self.assertEqual(sorted(others), sorted(["ack", *(f"s{n}" for n in range(10))]))
        self.assertEqual(self.client.bodies(10), [str(number) for number in range(10)])

    def test_commit_settles_and_abort_does_not(self):
        acked, nacked, kept = self.holding("acked", "nacked", "kept")
        connection = self.client.connection
        committed, aborted = connection.begin(), connection.begin()
        self.client.settle("ack", acked, transaction=committed)
        self.client.settle("nack", nacked, transaction=committed, requeue="false")
        self.client.settle("ack", kept, transaction=aborted)
        connection.send(self.queue, "never", transaction=aborted)
        self.aborted(aborted)
        self.committed(committed)
        self.client.disconnect()
        self.assert_left(self.queue, ("kept", True))

    def test_a_nack_requeues_at_commit(self):
        [held] = self.holding("held")
        transaction = self.client.connection.begin()
        self.client.settle("nack", held, transaction=transaction)
        self.client.send(self.queue, "before")
        self.assertEqual(self.client.bodies(1), ["before"])
        self.committed(transaction)
        again = self.client.message()
        self.assertEqual((again.body, again.headers["redelivered"]), ("held", "true"))

    def test_what_is_aborted_can_still_be_settled(self):
        [held] = self.holding("held")
        transaction = self.client.connection.begin()
        self.client.settle("nack", held, transaction=transaction)
        self.aborted(transaction)
        self.client.settled("ack", held)
        self.client.disconnect()
        self.assert_left(self.queue)

    def left_open(self, end):
        [held] = self.holding("held")
        transaction = self.client.connection.begin()
        self.client.connection.send(self.queue, "never", transaction=transaction)
        self.client.settle("ack", held, transaction=transaction)
        self.client.send(self.queue, "sent")
        self.assertEqual(self.client.bodies(1), ["sent"])
        end()
        self.assert_left(self.queue, ("held", True), ("sent", True))

    def test_what_is_open_is_dropped_by_disconnect(self):
        self.left_open(self.client.disconnect)

    def test_what_is_open_is_dropped_when_the_connection_is_cut(self):
        self.left_open(self.client.cut)

    def test_an_ack_of_nothing_is_refused_and_the_rest_of_its_transaction_too(self):
        [held] = self.holding("held")
        connection = self.client.connection
        transaction = connection.begin()
        connection.send(self.queue, "sent", transaction=transaction)
        self.client.settle("ack", held, transaction=transaction)
        self.client.settled("ack", held)
        why = self.client.refusal(lambda receipt: connection.commit(transaction, receipt=receipt))
        self.assertIn("nothing to acknowledge", why)
        self.assert_left(self.queue)


def load_tests(loader, tests, pattern):
    return every(loader, (Transactions, BOTH))
