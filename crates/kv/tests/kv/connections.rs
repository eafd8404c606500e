//! What a connection says and asks about itself and the replica.

use crate::commands::check;
use crate::server::Server;

/// The fields of a line of `CLIENT LIST`.
fn field(line: &str, name: &str) -> String {
    let found =
        line.split([' ', '·', '\n']).find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no field {name} in {line}")).to_owned()
}

#[test]
fn a_client_is_described_as_libraries_read_it() {
    let mut server = Server::new();
    server.line("CLIENT SETNAME me");
    server.line("CLIENT SETINFO LIB-NAME lib");
    let info = server.line("CLIENT INFO");
    // Those that redis-py takes for numbers.
    for name in [
        "id",
        "age",
        "idle",
        "db",
        "sub",
        "psub",
        "multi",
        "qbuf",
        "qbuf-free",
        "obl",
        "argv-mem",
        "oll",
        "omem",
        "tot-mem",
        "resp",
        "redir",
        "fd",
        "rbs",
        "rbp",
        "ssub",
        "multi-mem",
    ] {
        assert!(field(&info, name).parse::<i64>().is_ok(), "{name} in {info}");
    }
    for (name, value) in [
        ("id", "7"),
        ("addr", "127.0.0.1:50000"),
        ("laddr", "0.0.0.0:7401"),
        ("name", "me"),
        ("flags", "N"),
        ("cmd", "client|info"),
        ("user", "default"),
        ("resp", "2"),
        ("lib-name", "lib"),
        ("lib-ver", ""),
    ] {
        assert_eq!(field(&info, name), value, "{name} in {info}");
    }
    server.line("READONLY");
    server.line("HELLO 3");
    let info = server.line("CLIENT INFO");
    assert_eq!((field(&info, "flags"), field(&info, "resp")), ("r".to_owned(), "3".to_owned()));
    assert!(info.starts_with('=') && info.contains("·txt:id=7 "), "{info}");
    server.line("RESET");
    let info = server.line("CLIENT INFO");
    assert_eq!(field(&info, "name"), "");
    assert_eq!(field(&info, "lib-name"), "lib", "which library it is, RESET does not change");
}

#[test]
fn clients_are_listed_by_type_and_id() {
    let mut server = Server::new();
    let ids = |answer: &str| {
        let lines = answer.split(['·', '\n']).filter(|line| line.starts_with("id="));
        lines.map(|line| field(line, "id")).collect::<Vec<_>>()
    };
    let other = server.connect_another(9);
    assert_eq!(ids(&server.line("CLIENT LIST")), ["7", "9"]);
    assert_eq!(ids(&server.line("CLIENT LIST TYPE normal")), ["7", "9"]);
    assert!(ids(&server.line("CLIENT LIST TYPE pubsub")).is_empty());
    assert_eq!(ids(&server.line("CLIENT LIST ID 9 8 9")), ["9"]);
    drop(other);
    assert_eq!(ids(&server.line("CLIENT LIST ID 7 9")), ["7"]);
    check(&[
        ("CLIENT LIST TYPE foo", "-ERR Unknown client type 'foo'·", ""),
        ("CLIENT LIST ID x", "-ERR Invalid client ID·", ""),
        ("CLIENT LIST ID", "-ERR syntax error·", ""),
        ("CLIENT LIST foo", "-ERR syntax error·", ""),
    ]);
}

#[test]
fn replies_can_be_done_without() {
    let mut server = Server::new();
    let mut answers =
        |lines: &str| String::from_utf8_lossy(&server.feed(lines.as_bytes())).replace("\r\n", "·");
    assert_eq!(answers("CLIENT REPLY SKIP\r\nSET a 1\r\nGET a\r\n"), "$1·1·");
    assert_eq!(answers("CLIENT REPLY SKIP\r\nPING\r\nPING\r\n"), "+PONG·");
    assert_eq!(answers("CLIENT REPLY SKIP\r\nfoo\r\nCLIENT REPLY foo\r\n"), "-ERR syntax error·");
    assert_eq!(answers("CLIENT REPLY OFF\r\nSET a 2\r\nGET a\r\nfoo\r\nINFO\r\nPING\r\n"), "");
    assert_eq!(answers("CLIENT REPLY SKIP\r\nCLIENT REPLY foo\r\nGET a\r\n"), "");
    assert_eq!(answers("CLIENT REPLY ON\r\nGET a\r\n"), "+OK·$1·2·");
    assert_eq!(answers("CLIENT REPLY OFF\r\nRESET\r\nPING\r\n"), "+RESET·+PONG·");
    assert_eq!(answers("CLIENT REPLY OFF\r\n*x\r\n"), "");
    assert!(server.closed);
}

#[test]
fn a_refused_transaction_carries_out_nothing() {
    let aborted = "-EXECABORT MULTI was refused, and so is every command up to EXEC or DISCARD: not \
         carried out·";
    let over = "-EXECABORT Transaction discarded because of previous errors.·";
    let mut server = Server::new();
    let multi = server.line("MULTI");
    assert!(
        multi.starts_with("-ERR MULTI is refused: ")
            && multi.contains("pipeline(transaction=False)")
    );
    for line in ["SET a 1", "GET a", "PING", "foo", "MULTI", "WATCH a", "CLIENT ID", "SET a"] {
        assert_eq!(server.line(line), aborted, "{line}");
    }
    assert_eq!(server.line("EXEC"), over);
    assert_eq!(server.line("EXISTS a"), ":0·");
    server.line("MULTI");
    assert_eq!(server.line("SET a 1"), aborted);
    assert_eq!(server.line("DISCARD"), "+OK·");
    assert_eq!(server.line("EXISTS a"), ":0·");
    server.line("MULTI");
    assert_eq!(server.line("RESET"), "+RESET·");
    assert_eq!(server.line("PING"), "+PONG·");
    assert!(server.line("WATCH a b").starts_with("-ERR WATCH is refused: "));
    check(&[
        ("EXEC", "-ERR EXEC without MULTI·", ""),
        ("DISCARD", "-ERR DISCARD without MULTI·", ""),
        ("UNWATCH", "+OK·", ""),
        ("WATCH", "-ERR wrong number of arguments for 'watch' command·", ""),
    ]);
}

#[test]
fn info_says_what_clients_look_for() {
    let mut server = Server::new();
    for line in ["SET a x", "SET b 1 PX 100000", "SET c", "INCR a", "CLIENT ID"] {
        server.line(line);
    }
    let all = server.line("INFO");
    for line in [
        "# Server·redis_version:7.0.15·redis_mode:standalone·",
        "·tcp_port:7401·uptime_in_seconds:90000·uptime_in_days:1·",
        "·connected_clients:3·",
        "·maxclients:100·",
        "·used_memory:",
        "·maxmemory_policy:noeviction·",
        "·loading:0·",
        "·total_connections_received:1·total_commands_processed:4·instantaneous_ops_per_sec:",
        "·total_error_replies:2·",
        "·role:master·",
        "·mainstay_replica:1·mainstay_leader:2·mainstay_decided:50·mainstay_applied:49·\
         mainstay_decided_time_ms:1700000000000·mainstay_log_bytes:1234·",
    ] {
        assert!(all.contains(line), "{line} in {all}");
    }
    assert!(all.ends_with("·# Keyspace·db0:keys=2,expires=1,avg_ttl=0··"), "{all}");
    assert!(!all.contains("# Commandstats"));
    let all = server.line("INFO everything");
    for line in [
        "·# Commandstats·",
        "·cmdstat_client|id:calls=1,usec=0,usec_per_call=0.00,rejected_calls=0,failed_calls=0·",
        "·cmdstat_incr:calls=1,usec=0,usec_per_call=0.00,rejected_calls=0,failed_calls=1·",
        "·cmdstat_set:calls=2,usec=0,usec_per_call=0.00,rejected_calls=1,failed_calls=0·",
    ] {
        assert!(all.contains(line), "{line} in {all}");
    }
    server.line("CONFIG RESETSTAT");
    assert!(server.line("INFO stats").contains("·total_commands_processed:1·"));
}

#[test]
fn a_replica_is_told_from_another_by_its_run_id() {
    let run_id = |server: &mut Server| {
        let text = server.line("INFO SERVER");
        let begin = text.find("·run_id:").expect("is there") + "·run_id:".len();
        text[begin..].split('·').next().expect("is there").to_owned()
    };
    let (mut one, mut other) = (Server::new(), Server::new());
    assert_eq!(run_id(&mut one).len(), 40);
    assert_eq!(run_id(&mut one), run_id(&mut one));
    assert_ne!(run_id(&mut one), run_id(&mut other));
}

#[test]
fn what_is_not_known_is_left_out_of_info() {
    let mut server = Server::new();
    assert_eq!(server.line("INFO nothing"), "$0··");
    assert_eq!(server.line("INFO keyspace"), "$12·# Keyspace··", "as in Redis, without keys");
    server.line("SET a 1");
    assert_eq!(server.line("INFO keyspace"), "$44·# Keyspace·db0:keys=1,expires=0,avg_ttl=0··");
    server.line("HELLO 3");
    assert_eq!(server.line("INFO cluster"), "=34·txt:# Cluster·cluster_enabled:0··");
    server.view.readable = false;
    server.view.loading = true;
    server.view.leader = None;
    assert_eq!(server.line("INFO keyspace"), "=4·txt:·");
    assert!(server.line("info persistence").contains("·loading:1·"));
    assert!(server.line("info mainstay").contains("·mainstay_leader:none·"));
    assert!(!server.line("INFO").contains("Keyspace"));
}
