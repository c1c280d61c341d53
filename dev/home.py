"""Where the local stack keeps its files, and which ports it uses."""

import contextlib
import errno
import fcntl
import json
import os
import secrets
import shlex
import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dev.faults import StackError

REPOSITORY = Path(__file__).resolve().parent.parent
STACK_ENVIRONMENT = REPOSITORY / ".venv-stack"

DEFAULT_PORT = 8080
HIGHEST_PORT = 65_534  # the storage door listens on the port above the front door's
# Below those that systems give to outgoing connections, which could take a port between its choice and its use.
_QUIET_PORTS = range(20_000, 32_000)

# A database, the servers' logs and a first data set; measured on a fresh home, then rounded up.
FREE_BYTES_NEEDED = 300 * 1024 * 1024


@dataclass(frozen=True)
class Home:
    """The folder that survives restarts (`TRAINSHED_HOME`)."""

    path: Path

    @property
    def env_file(self) -> Path:
        """Settings for people, shells and tests; there while the stack is ready."""
        return self.path / "env"

    @property
    def functions_env_file(self) -> Path:
        """Settings of the functions, for one that is served alone."""
        return self.path / "functions.env"

    @property
    def keys(self) -> Path:
        """Private keys and secrets."""
        return self.path / "keys"

    @property
    def logs(self) -> Path:
        """What each server of the last start has said."""
        return self.path / "logs"

    @property
    def postgres(self) -> Path:
        """The database's data folder."""
        return self.path / "postgres"

    @property
    def storage(self) -> Path:
        """The buckets."""
        return self.path / "storage"

    @property
    def tasks(self) -> Path:
        """Tasks that wait for delivery."""
        return self.path / "tasks"

    @property
    def run(self) -> Path:
        """Files that describe the running stack; written anew at every start."""
        return self.path / "run"

    @property
    def lock_file(self) -> Path:
        """Held by the supervisor that runs; names its address."""
        return self.path / "lock"

    def prepare(self) -> None:
        """Create the folders.

        Raises:
            StackError: the folder cannot be written, or the disk is nearly full.
        """
        try:
            for folder in (self.path, self.keys, self.logs, self.run, self.storage):
                folder.mkdir(parents=True, exist_ok=True)
            self.keys.chmod(0o700)
        except OSError as error:
            raise StackError(f"Cannot write to {self.path}: {error.strerror}.") from error
        try:
            os.setxattr(self.storage, "user.trainshed", b"1")
        except OSError as error:
            raise StackError(
                f"The file system of {self.path} keeps no extended attributes, which the object store needs: "
                f"{error.strerror}. Choose another folder with TRAINSHED_HOME."
            ) from error
        free = shutil.disk_usage(self.path).free
        if free < FREE_BYTES_NEEDED:
            raise StackError(
                f"The disk that holds {self.path} is nearly full: {free // 2**20} MiB are free, "
                f"the stack needs {FREE_BYTES_NEEDED // 2**20} MiB."
            )

    @contextlib.contextmanager
    def lock(self, url: str) -> Iterator[None]:
        """Hold the home for one supervisor; the kernel lets go of it however that process ends.

        Args:
            url: what to tell a second start about the first one.

        Raises:
            StackError: another stack runs with this home.
        """
        with self.lock_file.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                running = file.read().strip() or "it is still starting"
                raise StackError(f"A stack is already running with {self.path} ({running}).") from error
            file.truncate(0)
            file.write(url)
            file.flush()
            yield

    def is_running(self) -> bool:
        """Tell whether a supervisor holds this home."""
        if not self.lock_file.exists():
            return False
        with self.lock_file.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def secret(self, name: str, prefix: str = "") -> str:
        """Return the stored secret of that name, made up on first use."""
        file = self.keys / "secrets.json"
        known: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
        if name not in known:
            known[name] = prefix + secrets.token_urlsafe(24)
            write_private(file, json.dumps(known, indent=2).encode())
        return known[name]


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    draft = path.with_name(path.name + ".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    draft.replace(path)


def home_from(environment: Mapping[str, str]) -> Home:
    """Return the home that `TRAINSHED_HOME` names; default `.trainshed` in the repository."""
    return Home(Path(environment.get("TRAINSHED_HOME") or REPOSITORY / ".trainshed").resolve())


def front_port_from(environment: Mapping[str, str]) -> int:
    """Return the front door's port (`PORT`).

    Raises:
        StackError: it is not a port number.
    """
    text = environment.get("PORT") or str(DEFAULT_PORT)
    if not text.isdecimal() or not 1 <= int(text) <= HIGHEST_PORT:
        raise StackError(f"PORT must be a number from 1 to {HIGHEST_PORT}, not {text!r}.")
    return int(text)


@dataclass(frozen=True)
class Ports:
    """Every port of one stack, all on 127.0.0.1. Those that people and signed URLs name are fixed."""

    front: int
    storage: int
    storage_internal: int
    postgres: int
    postgrest: int
    postgrest_admin: int
    gcs: int
    tasks: int
    task_bridge: int
    services: int
    api: int
    training: int


def choose_ports(front: int) -> Ports:
    """Return the ports of a stack: the front door's, the storage door's above it, and free ones.

    Raises:
        StackError: one of the two fixed ports is in use.
    """
    for port, purpose in ((front, "the front door"), (front + 1, "the storage door")):
        if not is_free(port):
            raise StackError(
                f"Port {port} ({purpose}) is in use by another program; "
                f"stop that program or choose another port with PORT, for example PORT={front + 100}."
            )
    return Ports(front, front + 1, *free_ports(10, taken={front, front + 1}))


def is_free(port: int) -> bool:
    """Tell whether a server could listen on that loopback port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno == errno.EACCES:
                raise StackError(f"Port {port} needs more rights than this user has.") from error
            return False
    return True


def free_ports(count: int, *, taken: set[int]) -> list[int]:
    """Return that many different ports which are free now; all are held until the last is found."""
    with contextlib.ExitStack() as held:
        ports: list[int] = []
        for port in secrets.SystemRandom().sample(_QUIET_PORTS, len(_QUIET_PORTS)):
            if len(ports) == count:
                break
            probe = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                if port not in taken:
                    ports.append(port)
    return ports


def read_env(path: Path) -> dict[str, str]:
    """Read a file of `NAME='value'` lines as `write_env` makes it."""
    lines = (line.partition("=") for line in path.read_text().splitlines() if line)
    return {name: shlex.split(value)[0] if value else "" for name, _, value in lines}


def write_env(path: Path, variables: Mapping[str, str]) -> None:
    """Write variables so that a shell can source the file."""
    lines = (f"{name}={shlex.quote(value)}\n" for name, value in variables.items())
    write_private(path, "".join(lines).encode())
