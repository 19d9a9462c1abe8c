"""nchan, a module of nginx, from Debian's packages: in memory, one worker process, our configuration."""

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import wire
from bench.figures import NCHAN
from bench.publishing import HttpPublisher, Publisher
from bench.servers import Process
from bench.usage import Cores, Usage
from project.embedded import free_port

MODULES = Path("/usr/lib/nginx/modules")
PACKAGES = "nginx-light and libnginx-mod-nchan"

# No access log and no limits. Messages are kept for who comes back, as many as our ring holds.
CONFIGURATION = """
{user}daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx-errors.log;
worker_processes 1;
worker_rlimit_nofile 100000;
{modules}
events {{ worker_connections 65536; use epoll; multi_accept on; }}
http {{
    access_log off;
    nchan_shared_memory_size 512M;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location /sub {{
            nchan_subscriber eventsource;
            nchan_channel_id $arg_channel;
            nchan_subscriber_first_message newest;
        }}
        location /all {{
            nchan_subscriber eventsource;
            nchan_channel_id $arg_channel;
            nchan_subscriber_first_message oldest;
        }}
        location /pub {{
            nchan_publisher;
            nchan_channel_id $arg_channel;
            nchan_message_buffer_length 20000;
            nchan_message_timeout 10m;
        }}
        location /alive {{ return 204; }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Nchan:
    """One nginx that runs."""

    subject: str
    address: tuple[str, int]
    process: Process
    cores: Cores

    def usage(self) -> Usage:
        """Return what nginx cost so far, its master included."""
        return self.process.usage()

    def opening(self, channel: str, *, last_event_id: str = "") -> bytes:
        """Return the request for a stream; any last id stands for all that is kept."""
        path = "/all" if last_event_id else "/sub"
        return wire.opening(self.address, f"{path}?channel={channel}")

    def publisher(self) -> AbstractContextManager[Publisher]:
        """Return who posts to it."""
        return HttpPublisher(self.address, "/pub?channel=", self.cores.rest)

    def one_by_one(self) -> AbstractContextManager[Publisher]:
        """Return who posts to it as most programs do: an event when the last was answered."""
        return HttpPublisher(self.address, "/pub?channel=", self.cores.rest, connections=1, in_flight=1)


@dataclass(frozen=True, slots=True)
class NchanStarts:
    """How to start it."""

    subject: str
    program: str
    folder: Path
    cores: Cores

    @contextmanager
    def start(self, **environment: str) -> Iterator[Nchan]:
        """Serve until the context is left."""
        port = free_port()
        folder = self.folder / f"nchan-{port}"
        folder.mkdir()
        wanted = [MODULES / name for name in ("ndk_http_module.so", "ngx_nchan_module.so")]
        modules = "\n".join(f"load_module {path};" for path in wanted if path.exists())
        user = "user root;\n" if os.geteuid() == 0 else ""  # it keeps to a folder that is ours
        text = CONFIGURATION.format(user=user, folder=folder, modules=modules, port=port)
        (folder / "nginx.conf").write_text(text)
        command: list[str | Path] = [self.program, "-p", folder, "-c", folder / "nginx.conf", "-e", "stderr"]
        with Process("nchan", command, folder=self.folder, core=self.cores.server, cwd=folder) as process:
            process.await_answer(port, "/alive", good=lambda status, body: status == 204)
            yield Nchan(self.subject, ("127.0.0.1", port), process, self.cores)


def find(folder: Path, cores: Cores) -> NchanStarts:
    """Return how to start it; raise LookupError where it is not installed."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None or not (MODULES / "ngx_nchan_module.so").exists():
        raise LookupError(f"Debian's packages {PACKAGES} are not installed")
    return NchanStarts(NCHAN, program, folder, cores)
