"""Database servers of this machine, started for one test in a folder and on a port of their own."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

_DRIVERS = {"postgresql": ("psycopg2", "psycopg"), "mysql": ("pymysql", "MySQLdb")}


@contextmanager
def database(kind):
    """Run a server of `postgresql` or `mysql` and yield a URL for an empty database, or skip the test with a reason."""
    driver = next((name for name in _DRIVERS[kind] if find_spec(name)), None)
    if driver is None:
        pytest.skip(f"no driver for {kind}: {' or '.join(_DRIVERS[kind])}")
    folder = Path(tempfile.mkdtemp(prefix="database-"))
    try:
        yield from {"postgresql": _postgresql, "mysql": _mysql}[kind](folder, _free_port(), driver)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _postgresql(folder, port, driver):
    initdb, postgres = _program("initdb"), _program("postgres")
    user = _owner(folder)
    data = folder / "data"
    _make([initdb, "-D", data, "-A", "trust", "-U", "tester", "--no-sync"], folder, user)
    server = subprocess.Popen(
        [postgres, "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", folder], user=user,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        url = f"postgresql+{driver}://tester@127.0.0.1:{port}/postgres"
        _wait_until_open(url, server)
        yield url
    finally:
        _end(server)


def _mysql(folder, port, driver):
    mysqld = _program("mariadbd", "mysqld")
    user, data = _owner(folder), folder / "data"
    install = shutil.which("mariadb-install-db") or shutil.which("mysql_install_db")
    make = (
        [install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal"]
        if install
        else [mysqld, "--no-defaults", "--initialize-insecure", f"--datadir={data}"]
    )
    _make(make, folder, user)
    server = subprocess.Popen(
        [mysqld, "--no-defaults", f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1",
         f"--socket={folder}/s", f"--pid-file={folder}/pid"],
        user=user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    name = {"pymysql": "pymysql", "MySQLdb": "mysqldb"}[driver]
    try:
        _wait_until_open(f"mysql+{name}://root@127.0.0.1:{port}/mysql", server, "CREATE DATABASE sweeps")
        yield f"mysql+{name}://root@127.0.0.1:{port}/sweeps"
    finally:
        _end(server)


def _make(command, folder, user):
    done = subprocess.run(command, user=user, capture_output=True, text=True, cwd=folder, check=False)
    if done.returncode:
        pytest.skip(f"the database server here makes no database: {(done.stderr or done.stdout).strip()[:200]}")


def _program(*names):
    """Return the path of a server's program; Debian keeps some of them out of the search path."""
    places = [str(place) for place in sorted(Path("/usr/lib/postgresql").glob("*/bin"))]
    found = [shutil.which(name, path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", *places])) for name in names]
    program = next(filter(None, found), None)
    if program is None:
        pytest.skip(f"no database server here: {' or '.join(names)}")
    return program


def _owner(folder):
    """Give the folder to somebody who is not root, whom servers refuse; None: nobody else is needed."""
    if os.getuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return nobody.pw_uid


def _free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _wait_until_open(url, server, statement="SELECT 1"):
    import sqlalchemy

    engine, deadline = sqlalchemy.create_engine(url), time.monotonic() + 60
    while True:
        try:
            with engine.begin() as connection:
                connection.execute(sqlalchemy.text(statement))
        except sqlalchemy.exc.OperationalError:
            assert server.poll() is None, "the server has ended"
            assert time.monotonic() < deadline
            time.sleep(0.2)
        else:
            engine.dispose()
            return


def _end(server):
    server.terminate()
    try:
        server.wait(30)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
