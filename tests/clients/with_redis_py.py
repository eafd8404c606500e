"""redis-py against a cluster: both protocol versions, pipelines, errors, and a leader that is killed.

Usage: with_redis_py.py PROGRAM DATA PORT...
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import redis

program, data, ports = sys.argv[1], sys.argv[2], [int(port) for port in sys.argv[3:]]


def connect(port, protocol=2):
    return redis.Redis(port=port, protocol=protocol, socket_timeout=15, decode_responses=True)


def commands(protocol):
    one, other = connect(ports[0], protocol), connect(ports[1], protocol)
    assert one.flushall()
    assert one.ping() and one.echo("hello") == "hello"
    assert one.set("k", "v") and other.get("k") == "v"
    assert one.set("k", "w", nx=True) is None
    assert one.set("k", "w", get=True) == "v"
    assert other.get("none") is None
    assert one.delete("k", "none") == 1
    assert one.exists("k") == 0
    assert one.mset({"a": "1", "b": "2"}) and other.mget("a", "b", "c") == ["1", "2", None]
    assert other.incr("a") == 2 and one.decr("a", 3) == -1
    assert one.append("b", "22") == 3 and other.strlen("b") == 3
    assert one.dbsize() == 2
    binary = redis.Redis(port=ports[2], protocol=protocol)
    value = bytes(range(256)) * 400
    assert binary.set(b"\r\n\0", value) and binary.get(b"\r\n\0") == value
    pipe = one.pipeline(transaction=False)
    for number in range(500):
        pipe.set("n", number)
        pipe.get("n")
    answers = pipe.execute()
    assert answers[1::2] == [str(number) for number in range(500)], "a read saw another write"
    try:
        one.incr("b2") and one.set("text", "x") and one.incr("text")
        raise AssertionError("INCR of a text passed")
    except redis.ResponseError as error:
        assert "not an integer" in str(error), error
    try:
        one.execute_command("NOSUCHCOMMAND", "x")
        raise AssertionError("an unknown command passed")
    except redis.ResponseError as error:
        assert "unknown command" in str(error), error
    assert one.client_setname("checker") and int(one.client_id()) > 0
    info = one.client_info()
    assert info["name"] == "checker" and info["db"] == 0 and ":" in info["addr"], info
    assert info["id"] in [int(client["id"]) for client in one.client_list()]
    info = one.info()
    assert "redis_version" in info and len(info["run_id"]) == 40 and info["maxclients"] > 0, info
    assert info["total_commands_processed"] > 0 and info["used_memory"] > 0, info
    assert info["db0"]["keys"] == one.dbsize(), info
    iteration(protocol)
    transaction(one)
    assert one.flushall()


def iteration(protocol):
    """Each part of an iteration at another replica."""
    clients = [connect(port, protocol) for port in ports]
    assert clients[0].flushall()
    wanted = {f"key:{number}" for number in range(1000)}
    assert clients[0].mset(dict.fromkeys(wanted, "v"))
    found, cursor, parts = [], 0, 0
    while cursor != 0 or parts == 0:
        cursor, keys = clients[parts % len(clients)].scan(cursor, count=50)
        found += keys
        parts += 1
    assert parts >= 20 and len(found) == len(wanted) and set(found) == wanted, (parts, len(found))
    assert set(clients[1].scan_iter(match="key:99?")) == {f"key:99{digit}" for digit in range(10)}
    assert sorted(clients[2].keys("key:1")) == ["key:1"]
    assert clients[2].randomkey() in wanted
    assert clients[0].incrbyfloat("f", 0.1) == 0.1 and clients[1].incrbyfloat("f", 0.2) == 0.3
    assert clients[0].rename("f", "g") and clients[1].type("g") == "string"


def transaction(client):
    """The default pipeline of redis-py: it is told what is wrong, and nothing is carried out."""
    pipe = client.pipeline()
    pipe.set("transaction", "x")
    pipe.incr("transaction:counter")
    try:
        pipe.execute()
        raise AssertionError("a transaction passed")
    except redis.ResponseError as error:
        assert "no transactions yet" in str(error) and "transaction=False" in str(error), error
    assert client.exists("transaction", "transaction:counter") == 0


def status():
    told = subprocess.run(
        [program, "status", "--json", "--data", data], capture_output=True, check=False
    )
    return json.loads(told.stdout)["groups"][0]


def leader():
    for _ in range(600):
        group = status()
        if group["leader"] is not None:
            replica = group["replicas"][group["leader"]]
            if replica["pid"] is not None:
                return replica
        time.sleep(0.05)
    raise AssertionError("no leader in time")


def kill_the_leader():
    """Writers at the two other replicas go on; what was acknowledged is there afterwards."""
    victim = leader()
    others = [port for port in ports if not victim["client"].endswith(f":{port}")]
    acknowledged = [0] * len(others)
    stop = threading.Event()

    def write(place, port):
        client = connect(port)
        number = 0
        while not stop.is_set():
            number += 1
            try:
                client.set(f"writer:{place}", number)
                acknowledged[place] = number
            except redis.RedisError:
                client = connect(port)

    writers = [threading.Thread(target=write, args=pair) for pair in enumerate(others)]
    for writer in writers:
        writer.start()
    time.sleep(0.5)
    before = list(acknowledged)
    os.kill(victim["pid"], signal.SIGKILL)
    until = time.monotonic() + 60
    while any(now < then + 50 for now, then in zip(acknowledged, before)):
        assert time.monotonic() < until, f"no progress after the leader died: {acknowledged}"
        time.sleep(0.02)
    stop.set()
    for writer in writers:
        writer.join()
    for place, number in enumerate(acknowledged):
        found = int(connect(others[0]).get(f"writer:{place}"))
        assert found >= number, f"writer {place}: {number} was acknowledged, {found} is there"
    return sum(acknowledged)


def resident():
    """Bytes that each replica has in memory, as the system says: without asking the replica."""
    sizes = []
    for replica in status()["replicas"]:
        with open(f"/proc/{replica['pid']}/status", encoding="ascii") as lines:
            sizes += [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")]
    return sizes


def memory_comes_back():
    """What was freed goes back to the system although nobody asks for anything any more."""
    client = connect(ports[0])
    before = max(resident())
    for part in range(100):
        client.mset({f"large:{part}:{number}": "x" * 1024 for number in range(2000)})
    for port in ports:
        assert connect(port).dbsize() == 200_000
    full = min(resident())
    assert full > before + (150 << 20), (before, full)
    assert client.flushall()
    # The log goes on holding up to 64 MiB of decided values.
    until = time.monotonic() + 120
    while max(resident()) > full * 2 // 3:
        assert time.monotonic() < until, f"{before} before, {full} full, {resident()} now"
        time.sleep(1)
    return full >> 20, max(resident()) >> 20


for protocol in (2, 3):
    commands(protocol)
print(f"clients: redis-py {redis.__version__}: RESP2 and RESP3 as wanted")
full, empty = memory_comes_back()
print(f"clients: redis-py: {full} MiB resident, {empty} after FLUSHALL without traffic")
print(f"clients: redis-py: leader killed, {kill_the_leader()} acknowledged writes, none lost")
