"""Calls over zerorpc, on gevent. python -m bench.echo_zerorpc server URL | client URL IN_FLIGHT SECONDS"""

import sys
import time

import gevent
import zerorpc

from bench.flight import BODY, Flight


class Echo:
    """What it serves."""

    def echo(self, text: str) -> str:
        """Answer with what was asked."""
        return text


def load(url: str, in_flight: int, seconds: float) -> None:
    """Ask, from so many greenlets."""
    client = zerorpc.Client(timeout=30)
    client.connect(url)
    client.echo(BODY)
    flight = Flight(seconds)

    def one_after_the_other() -> None:
        began = time.perf_counter()
        while not flight.ended:
            client.echo(BODY)
            began = flight.came(began)

    gevent.joinall([gevent.spawn(one_after_the_other) for _ in range(in_flight)], raise_error=True)
    flight.report()


if __name__ == "__main__":
    if sys.argv[1] == "server":
        server = zerorpc.Server(Echo())
        server.bind(sys.argv[2])
        server.run()
    else:
        load(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
