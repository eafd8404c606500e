//! What clients of Redis send when they connect, and what they make of the replies. The sequences
//! are those in the sources of redis-cli 7, redis-benchmark 7, redis-py 6, go-redis 9 and ioredis 5.

use crate::world::Cluster;
use crate::world::raw::Raw;

/// A command, how its reply begins, and what else is in it.
type Step = (&'static [&'static str], &'static str, &'static [&'static str]);

const HELLO_REPLY: &[&str] = &["proto\r\n:3\r\n", "version", "mode", "role", "modules"];

const CLIENTS: [(&str, &[Step]); 6] = [
    (
        "redis-cli",
        &[
            (&["COMMAND", "DOCS"], "*", &["get", "summary"]),
            (&["INFO", "SERVER"], "$", &["redis_version:"]),
            (&["CONFIG", "GET", "databases"], "*2", &["databases", "1"]),
            (&["SET", "k", "v"], "+OK", &[]),
            (&["GET", "k"], "$1\r\nv", &[]),
        ],
    ),
    (
        "redis-cli -3",
        &[
            (&["HELLO", "3"], "%7", HELLO_REPLY),
            (&["COMMAND", "DOCS"], "%", &["get", "summary"]),
            (&["GET", "none"], "_\r\n", &[]),
        ],
    ),
    (
        "redis-benchmark",
        &[
            (&["CONFIG", "GET", "save"], "*2", &["save"]),
            (&["CONFIG", "GET", "appendonly"], "*2", &["appendonly"]),
            (&["PING"], "+PONG", &[]),
        ],
    ),
    (
        "redis-py",
        &[
            (&["HELLO", "3"], "%7", HELLO_REPLY),
            (
                &["CLIENT", "MAINT_NOTIFICATIONS", "ON", "moving-endpoint-type", "internal-ip"],
                "-ERR",
                &[],
            ),
            (&["CLIENT", "SETNAME", "worker"], "+OK", &[]),
            (&["CLIENT", "SETINFO", "LIB-NAME", "redis-py"], "+OK", &[]),
            (&["CLIENT", "SETINFO", "LIB-VER", "6.4.0"], "+OK", &[]),
            (&["PING"], "+PONG", &[]),
        ],
    ),
    (
        "go-redis",
        &[
            (&["HELLO", "3", "SETNAME", "worker"], "%7", HELLO_REPLY),
            (&["CLIENT", "SETINFO", "LIB-NAME", "go-redis(,go1.24)"], "+OK", &[]),
            (&["CLIENT", "SETINFO", "LIB-VER", "9.12.1"], "+OK", &[]),
            (&["CLIENT", "MAINT_NOTIFICATIONS", "ON", "moving-endpoint-type", "none"], "-ERR", &[]),
            (&["INCR", "n"], ":1\r\n", &[]),
        ],
    ),
    (
        "ioredis",
        &[
            (&["HELLO", "3"], "%7", HELLO_REPLY),
            (&["CLIENT", "SETINFO", "LIB-NAME", "ioredis"], "+OK", &[]),
            (&["CLIENT", "SETINFO", "LIB-VER", "5.7.0"], "+OK", &[]),
            (&["INFO"], "=", &["loading:0\r\n", "redis_version:", "role:master"]),
        ],
    ),
];

#[test]
fn clients_of_redis_connect() {
    let cluster = Cluster::start(&[]);
    cluster.wait_until_whole();
    for (number, (client, steps)) in CLIENTS.iter().enumerate() {
        let mut connection = Raw::connect(cluster.clients_at(number % 3));
        for (command, beginning, parts) in *steps {
            connection.command(command);
            let reply = connection.reply();
            assert!(reply.starts_with(beginning), "{client}: {command:?} -> {reply}");
            for part in *parts {
                assert!(reply.contains(part), "{client}: {command:?} lacks {part}: {reply}");
            }
        }
    }
}

#[test]
fn a_whole_pipeline_is_answered_in_order() {
    let cluster = Cluster::start(&[]);
    cluster.wait_until_whole();
    let mut connection = Raw::connect(cluster.clients_at(1));
    for number in 0..500 {
        connection.command(&["SET", "k", &number.to_string()]);
        connection.command(&["GET", "k"]);
    }
    for number in 0..500 {
        assert_eq!(connection.reply(), "+OK\r\n");
        assert!(connection.reply().ends_with(&format!("\r\n{number}\r\n")));
    }
    assert!(connection.send(b"PING\r\n\"ECHO\" 'a b'\r\n"), "inline commands");
    assert_eq!(connection.reply(), "+PONG\r\n");
    assert_eq!(connection.reply(), "$3\r\na b\r\n");
}
