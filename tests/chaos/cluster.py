"""Three RabbitMQ nodes on one machine, as one cluster: own data, ports and name service; loopback only."""

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx

from infra.local import ports, rabbitmq, readiness, services
from infra.local.errors import StackError
from infra.local.home import Home, write

NODES: Final = ("node1", "node2", "node3")
PER_NODE: Final = ("rabbitmq", "rabbitmq-management", "rabbitmq-distribution")
READY_WITHIN_S: Final = 120.0
STOPPED_WITHIN_S: Final = 30.0
POLL_S: Final = 0.1
# A node that was cut off starts anew when the others are seen again. With pause_minority a node that was suspended does
# not know that it was: RabbitMQ 3.10 stays split, and confirms nothing that is published there, until it is restarted.
PARTITIONS: Final = "cluster_partition_handling = autoheal\n"
# A node that does not answer is taken for lost after 6 to 10 s, not a minute: the runs are short.
ADVANCED: Final = "[{kernel, [{inet_dist_use_interface, {127, 0, 0, 1}}, {net_ticktime, 8}]}].\n"


class Cluster:
    """The nodes, each a child of this process.

    Attributes:
        ports: of each node's AMQP.
    """

    def __init__(self, folder: Path) -> None:
        self._home = Home.at(folder)
        self._home.make()
        names = [f"{node}-{port}" for node in NODES for port in PER_NODE]
        chosen = ports.choose(self._home, [*names, "epmd"])
        self._ports = {
            node: {**{port: chosen[f"{node}-{port}"] for port in PER_NODE}, "epmd": chosen["epmd"]} for node in NODES
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.ports = [self._ports[node]["rabbitmq"] for node in NODES]

    @contextmanager
    def running(self) -> Iterator["Cluster"]:
        """Start the nodes, wait until each knows the others, and end them with the block."""
        cookie = secrets.token_hex(20)
        try:
            for node in NODES:
                self._configure(node, cookie)
                self.start(node)
            for node in NODES:
                self.wait_ready(node)
            self._wait_joined()
            yield self
        finally:
            self._end()

    def start(self, node: str) -> None:
        """Start a node that does not run."""
        environment = rabbitmq.environment(self._folder(node), self._ports[node])
        environment["RABBITMQ_NODENAME"] = f"{node}@localhost"
        with self._home.log_of(node).open("ab") as log:
            self._processes[node] = subprocess.Popen(
                [str(rabbitmq.server_script()), "-noinput"], env=environment, stdout=log, stderr=subprocess.STDOUT
            )

    def wait_ready(self, node: str) -> None:
        """Return when a node takes connections; raises StackError when that takes too long."""
        until = time.monotonic() + READY_WITHIN_S
        ports_of = self._ports[node]
        while not rabbitmq.ready(ports_of["rabbitmq"], ports_of["rabbitmq-management"]):
            if self._processes[node].poll() is not None or time.monotonic() > until:
                raise StackError(f"{node} does not start: see {self._home.log_of(node)}")
            time.sleep(POLL_S)

    def _wait_joined(self) -> None:
        """Return when all nodes are one cluster; raises StackError when they don't become one."""
        until = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < until:
            answer = httpx.get(f"{self.management_url}/api/nodes", auth=("guest", "guest"), trust_env=False)
            if answer.is_success and sum(node.get("running", False) for node in answer.json()) == len(NODES):
                return
            time.sleep(POLL_S)
        raise StackError(f"the nodes don't become one cluster: see {self._home.log}")

    def kill(self, node: str) -> None:
        """SIGKILL a node."""
        self._processes[node].kill()
        self._processes[node].wait()

    def pause(self, node: str) -> None:
        """SIGSTOP a node: its connections stay open, and it says nothing."""
        self._processes[node].send_signal(signal.SIGSTOP)

    def resume(self, node: str) -> None:
        """SIGCONT a paused node."""
        self._processes[node].send_signal(signal.SIGCONT)

    @property
    def management_url(self) -> str:
        """The management API of a node that answers; raises StackError when none does."""
        for node in NODES:
            port = self._ports[node]["rabbitmq-management"]
            if readiness.http_ok(port, "/"):
                return services.url(port)
        raise StackError("no node of the cluster answers")

    def _folder(self, node: str) -> Path:
        return self._home.root / node

    def _configure(self, node: str, cookie: str) -> None:
        folder = self._folder(node)
        folder.mkdir(mode=0o700)
        write(folder / ".erlang.cookie", cookie, mode=0o400)
        rabbitmq.configure(folder, self._ports[node]["rabbitmq-management"])
        peers = "".join(
            f"cluster_formation.classic_config.nodes.{number} = {peer}@localhost\n"
            for number, peer in enumerate(NODES, 1)
        )
        discovery = "cluster_formation.peer_discovery_backend = classic_config\n"
        configuration = folder / "rabbitmq.conf"
        write(configuration, configuration.read_text() + PARTITIONS + discovery + peers)
        write(folder / "advanced.config", ADVANCED)

    def _end(self) -> None:
        for process in self._processes.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(STOPPED_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._end_name_service()

    def _end_name_service(self) -> None:
        port = str(self._ports[NODES[0]]["epmd"])
        path = f"{os.environ.get('PATH', '')}:{rabbitmq.TOOLS}"
        subprocess.run(["epmd", "-port", port, "-kill"], env={"PATH": path}, capture_output=True, check=False)
