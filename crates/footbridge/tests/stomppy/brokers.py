"""Nodes over every broker, each started when it is first wanted and stopped at the end of the
tests; and the test cases that a mixin makes for each of them and each version of STOMP.

A gateway that has just started may not have reached RabbitMQ; what is asked of it meanwhile waits.
"""

import atexit
import functools
import unittest

from clients import CONNECTIONS, Client
from node import Gateway, Node, Server


def _ended(server):
    """`server`, which ends with the tests, and before those that it needs."""
    atexit.register(server.stop)
    return server


@functools.cache
def _rabbitmq():
    return _ended(Server("rabbitmq"))


@functools.cache
def _redis():
    return _ended(Server("redis"))


@functools.cache
def embedded():
    """A node with the broker inside it."""
    return _ended(Node())


@functools.cache
def gateway(number=0):
    """A node over RabbitMQ; those of different numbers share it."""
    return _ended(Gateway(_rabbitmq(), _redis()))


@functools.cache
def plugins_manners():
    """A node over RabbitMQ with the manners of its STOMP plugin."""
    return _ended(Gateway(_rabbitmq(), _redis(), FOOTBRIDGE_GATEWAY__COMPAT="rabbitmq"))


# The brokers that a row may be for.
EMBEDDED = {"embedded": embedded}
RABBITMQ = {"rabbitmq": gateway}
BOTH = EMBEDDED | RABBITMQ
PLUGINS_MANNERS = {"compat": plugins_manners}


class Row:
    """What the rows share: clients of one version on a node over one broker."""

    broker = None
    version = None
    node = None

    def connect(self, node=None):
        """A client, which is gone after the test."""
        client = Client.tcp(node or type(self).node(), self.version)
        self.addCleanup(client.cut)
        return client

    def fill(self, destination, *bodies, **headers):
        """Sends messages from a session of their own, each after the one before is taken."""
        client = self.connect()
        for body in bodies:
            client.send(destination, body, **headers)
        client.disconnect()

    def assert_left(self, destination, *expected):
        """That those messages wait in a queue and no others: bodies, and whether they came before.

        What a session gives back is there some time after its end, so it is waited for.
        """
        client = self.connect()
        client.subscribe(destination, "left")
        came = [client.message() for _ in expected]
        shown = [(one.body, one.headers.get("redelivered", "false") == "true") for one in came]
        self.assertEqual(shown, list(expected))
        client.send(destination, "the end")
        self.assertEqual(client.bodies(1), ["the end"])
        client.disconnect()


def every(loader, *rows):
    """The tests of every mixin in `rows`, which are pairs with brokers, for every version."""
    suite = unittest.TestSuite()
    for mixin, brokers in rows:
        for broker, node in brokers.items():
            for version in CONNECTIONS:
                name = f"{mixin.__name__} {broker} {version}"
                having = {"broker": broker, "version": version, "node": staticmethod(node),
                          "__module__": mixin.__module__, "__qualname__": name}
                case = type(name, (mixin, Row, unittest.TestCase), having)
                suite.addTests(loader.loadTestsFromTestCase(case))
    return suite
