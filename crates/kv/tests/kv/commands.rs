//! Commands and their answers, byte for byte, in both versions of the protocol. An end of line is
//! written as a middle dot.

use bytes::BytesMut;

use crate::server::{Server, client_address};
use mainstay_kv::RedisFront;
use mainstay_node::front::{Failure, Front as _, Outcome, Parsed, RejectCode, View};

/// Runs the lines in order on one connection a version. A line that is a number lets decided time go
/// forward to so many milliseconds.
pub(crate) fn check(lines: &[(&str, &str, &str)]) {
    let (mut two, mut three) = (Server::new(), Server::new());
    assert!(three.line("HELLO 3").starts_with("%7·"));
    for (line, expected_2, expected_3) in lines {
        if let Ok(ms) = line.parse() {
            two.advance(ms);
            three.advance(ms);
            continue;
        }
        assert_eq!(two.line(line), *expected_2, "RESP2: {line}");
        let expected_3 = if expected_3.is_empty() { expected_2 } else { expected_3 };
        assert_eq!(three.line(line), *expected_3, "RESP3: {line}");
    }
}

pub(crate) const NOT_AN_INTEGER: &str = "-ERR value is not an integer or out of range·";

#[test]
fn strings() {
    check(&[
        ("GET k", "$-1·", "_·"),
        ("SET k v", "+OK·", ""),
        ("get K", "$-1·", "_·"),
        ("gEt k", "$1·v·", ""),
        ("SET k \"\"", "+OK·", ""),
        ("GET k", "$0··", ""),
        ("SET k w NX", "$-1·", "_·"),
        ("SET k w xx", "+OK·", ""),
        ("SET k x GET", "$1·w·", ""),
        ("SET n x NX GET", "$-1·", "_·"),
        ("SET n y GET NX", "$1·x·", ""),
        ("SET none y XX", "$-1·", "_·"),
        ("SET none y XX GET", "$-1·", "_·"),
        ("GETSET k y", "$1·x·", ""),
        ("GETSET none y", "$-1·", "_·"),
        ("GETDEL none", "$1·y·", ""),
        ("GETDEL none", "$-1·", "_·"),
        ("GETSET k x", "$1·y·", ""),
        ("MGET k none n", "*3·$1·x·$-1·$1·x·", "*3·$1·x·_·$1·x·"),
        ("MSET a 1 b 2 a 3", "+OK·", ""),
        ("MGET a b", "*2·$1·3·$1·2·", ""),
        ("APPEND a 45", ":3·", ""),
        ("APPEND fresh xy", ":2·", ""),
        ("GET a", "$3·345·", ""),
        ("STRLEN a", ":3·", ""),
        ("STRLEN none", ":0·", ""),
        ("SET k \"\\x00\\xff\\r\\n\" ", "+OK·", ""),
        ("STRLEN k", ":4·", ""),
    ]);
}

#[test]
fn numbers() {
    check(&[
        ("INCR c", ":1·", ""),
        ("INCRBY c 41", ":42·", ""),
        ("DECR c", ":41·", ""),
        ("DECRBY c -9", ":50·", ""),
        ("GET c", "$2·50·", ""),
        ("INCRBY c x", NOT_AN_INTEGER, ""),
        ("INCRBY c 1.5", NOT_AN_INTEGER, ""),
        ("INCRBY c +1", NOT_AN_INTEGER, ""),
        ("INCRBY c 9223372036854775808", NOT_AN_INTEGER, ""),
        ("DECRBY c -9223372036854775808", "-ERR decrement would overflow·", ""),
        ("INCRBY c 9223372036854775807", "-ERR increment or decrement would overflow·", ""),
        ("GET c", "$2·50·", ""),
        ("SET c 9223372036854775807", "+OK·", ""),
        ("INCR c", "-ERR increment or decrement would overflow·", ""),
        ("SET c 007", "+OK·", ""),
        ("INCR c", NOT_AN_INTEGER, ""),
        ("SET c abc", "+OK·", ""),
        ("DECR c", NOT_AN_INTEGER, ""),
    ]);
}

#[test]
fn keys() {
    check(&[
        ("DBSIZE", ":0·", ""),
        ("MSET a 1 b 2 c 3", "+OK·", ""),
        ("DBSIZE", ":3·", ""),
        ("EXISTS a a none b", ":3·", ""),
        ("DEL a a none", ":1·", ""),
        ("UNLINK b", ":1·", ""),
        ("EXISTS a b", ":0·", ""),
        ("DBSIZE", ":1·", ""),
        ("FLUSHALL ASYNC", "+OK·", ""),
        ("DBSIZE", ":0·", ""),
        ("SET a 1", "+OK·", ""),
        ("FLUSHDB", "+OK·", ""),
        ("GET a", "$-1·", "_·"),
        ("FLUSHALL NOW", "-ERR syntax error·", ""),
    ]);
}

#[test]
fn refusals() {
    check(&[
        ("GET", "-ERR wrong number of arguments for 'get' command·", ""),
        ("GET a b", "-ERR wrong number of arguments for 'get' command·", ""),
        ("MSET a", "-ERR wrong number of arguments for 'mset' command·", ""),
        ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command·", ""),
        ("CLIENT", "-ERR wrong number of arguments for 'client' command·", ""),
        ("CLIENT SETNAME", "-ERR wrong number of arguments for 'client|setname' command·", ""),
        ("CONFIG GET", "-ERR wrong number of arguments for 'config|get' command·", ""),
        ("CLIENT KILL 1", "-ERR unknown subcommand 'KILL'. Try CLIENT HELP.·", ""),
        ("foo", "-ERR unknown command 'foo', with args beginning with: ·", ""),
        ("Foo a 'b c'", "-ERR unknown command 'Foo', with args beginning with: 'a' 'b c' ·", ""),
        ("foo \"a\\r\\nb\"", "-ERR unknown command 'foo', with args beginning with: 'a  b' ·", ""),
        ("SUBSCRIBE a", "-ERR unknown command 'SUBSCRIBE', with args beginning with: 'a' ·", ""),
        ("SET k v NX XX", "-ERR syntax error·", ""),
        ("SET k v FOO", "-ERR syntax error·", ""),
        ("EXISTS k", ":0·", ""),
    ]);
    let long = "x".repeat(300);
    let x100 = "x".repeat(100);
    let mut server = Server::new();
    assert_eq!(
        server.line(&format!("{long} {x100} {x100} {x100}")),
        format!(
            "-ERR unknown command '{}', with args beginning with: '{x100}' '{}' ·",
            &long[..128],
            &long[..25]
        )
    );
}

#[test]
fn connections() {
    check(&[
        ("PING", "+PONG·", ""),
        ("PING hi", "$2·hi·", ""),
        ("PING a b", "-ERR wrong number of arguments for 'ping' command·", ""),
        ("ECHO hi", "$2·hi·", ""),
        ("SELECT 0", "+OK·", ""),
        ("SELECT 1", "-ERR DB index is out of range·", ""),
        ("SELECT x", NOT_AN_INTEGER, ""),
        ("CLIENT ID", ":7·", ""),
        ("CLIENT GETNAME", "$-1·", "_·"),
        ("CLIENT SETNAME me", "+OK·", ""),
        ("CLIENT GETNAME", "$2·me·", ""),
        (
            "CLIENT SETNAME 'a b'",
            "-ERR Client names cannot contain spaces, newlines or special characters.·",
            "",
        ),
        ("CLIENT SETINFO LIB-NAME lib", "+OK·", ""),
        ("CLIENT SETINFO lib-ver 1.2", "+OK·", ""),
        ("CLIENT SETINFO x 1", "-ERR Unrecognized option 'x'·", ""),
        (
            "CLIENT SETINFO LIB-VER 'a b'",
            "-ERR lib-ver cannot contain spaces, newlines or special characters.·",
            "",
        ),
        ("CLIENT NO-EVICT on", "+OK·", ""),
        ("CLIENT NO-TOUCH maybe", "-ERR syntax error·", ""),
        ("CONFIG RESETSTAT", "+OK·", ""),
        ("CONFIG GET save", "*2·$4·save·$0··", "%1·$4·save·$0··"),
        ("CONFIG GET nothing", "*0·", "%0·"),
        (
            "CONFIG GET max* save",
            "*6·$9·maxmemory·$1·0·$16·maxmemory-policy·$10·noeviction·$4·save·$0··",
            "%3·$9·maxmemory·$1·0·$16·maxmemory-policy·$10·noeviction·$4·save·$0··",
        ),
        (
            "CONFIG SET maxmemory 1",
            "-ERR CONFIG SET is not supported: give settings when the replica starts·",
            "",
        ),
        (
            "AUTH secret",
            "-ERR AUTH <password> called without any password configured for the default user. Are \
             you sure your configuration is correct?·",
            "",
        ),
        ("AUTH default secret", "+OK·", ""),
        ("AUTH me secret", "-WRONGPASS invalid username-password pair or user is disabled.·", ""),
        ("AUTH me my secret", "-ERR syntax error·", ""),
        ("RESET", "+RESET·", ""),
        ("CLIENT GETNAME", "$-1·", "$-1·"),
    ]);
}

#[test]
fn hello_chooses_the_version() {
    let mut server = Server::new();
    let body = |version: u8| {
        format!(
            "$6·server·$5·redis·$7·version·$6·7.0.15·$5·proto·:{version}·$2·id·:7·\
             $4·mode·$10·standalone·$4·role·$6·master·$7·modules·*0·"
        )
    };
    assert_eq!(server.line("HELLO"), format!("*14·{}", body(2)));
    assert_eq!(server.line("HELLO 3 SETNAME me"), format!("%7·{}", body(3)));
    assert_eq!(server.line("HELLO"), format!("%7·{}", body(3)));
    assert_eq!(server.line("CLIENT GETNAME"), "$2·me·");
    for (line, answer) in [
        ("HELLO 4", "-NOPROTO unsupported protocol version·"),
        ("HELLO x", "-ERR Protocol version is not an integer or out of range·"),
        ("HELLO 2 FOO", "-ERR Syntax error in HELLO option 'FOO'·"),
        ("HELLO 2 SETNAME", "-ERR Syntax error in HELLO option 'SETNAME'·"),
        (
            "HELLO 2 AUTH me secret",
            "-WRONGPASS invalid username-password pair or user is disabled.·",
        ),
    ] {
        assert_eq!(server.line(line), answer);
        assert_eq!(server.line("GET none"), "_·", "a refused HELLO changes nothing: {line}");
    }
    assert_eq!(server.line("HELLO 2"), format!("*14·{}", body(2)));
    assert_eq!(server.line("GET none"), "$-1·");
}

#[test]
fn parts_of_values() {
    check(&[
        ("SET k 0123456789", "+OK·", ""),
        ("GETRANGE k 0 3", "$4·0123·", ""),
        ("GETRANGE k -3 -1", "$3·789·", ""),
        ("SUBSTR k 8 100", "$2·89·", ""),
        ("GETRANGE k 5 4", "$0··", ""),
        ("GETRANGE k -1 -5", "$0··", ""),
        ("GETRANGE k -100 0", "$1·0·", ""),
        ("GETRANGE k -200 -100", "$1·0·", ""),
        ("GETRANGE k -9223372036854775808 9223372036854775807", "$10·0123456789·", ""),
        ("GETRANGE none 0 -1", "$0··", ""),
        ("GETRANGE k x 1", NOT_AN_INTEGER, ""),
        ("SETRANGE k 8 xyz", ":11·", ""),
        ("GET k", "$11·01234567xyz·", ""),
        ("SETRANGE k 0 \"\"", ":11·", ""),
        ("SETRANGE none 5 \"\"", ":0·", ""),
        ("EXISTS none", ":0·", ""),
        ("SETRANGE none 2 a", ":3·", ""),
        ("GET none", "$3·\0\0a·", ""),
        ("SETRANGE k -1 a", "-ERR offset is out of range·", ""),
        (
            "SETRANGE k 16777216 a",
            "-ERR string exceeds maximum allowed size (proto-max-bulk-len)·",
            "",
        ),
        (
            "SETRANGE k 9223372036854775807 a",
            "-ERR string exceeds maximum allowed size (proto-max-bulk-len)·",
            "",
        ),
        ("SETRANGE k 9223372036854775807 \"\"", ":11·", ""),
    ]);
}

#[test]
fn numbers_with_a_fraction() {
    check(&[
        ("INCRBYFLOAT f 10.5", "$4·10.5·", ""),
        ("INCRBYFLOAT f 0.1", "$4·10.6·", ""),
        ("INCRBYFLOAT f -1e1", "$3·0.6·", ""),
        ("GET f", "$3·0.6·", ""),
        ("SET f 5.0e3 PX 100000", "+OK·", ""),
        ("INCRBYFLOAT f 2.0e2", "$4·5200·", ""),
        ("TTL f", ":100·", ""),
        ("INCRBYFLOAT f x", "-ERR value is not a valid float·", ""),
        ("INCRBYFLOAT f inf", "-ERR increment would produce NaN or Infinity·", ""),
        ("SET f x", "+OK·", ""),
        ("INCRBYFLOAT f 1", "-ERR value is not a valid float·", ""),
        ("GET f", "$1·x·", ""),
    ]);
}

#[test]
fn keys_that_get_another_name() {
    check(&[
        ("SETNX a 1", ":1·", ""),
        ("SETNX a 2", ":0·", ""),
        ("MSETNX b 2 a 3", ":0·", ""),
        ("EXISTS b", ":0·", ""),
        ("MSETNX b 2 c 3", ":1·", ""),
        ("MSETNX b", "-ERR wrong number of arguments for 'msetnx' command·", ""),
        ("MSETNX b 2 c", "-ERR wrong number of arguments for 'msetnx' command·", ""),
        ("TYPE a", "+string·", ""),
        ("TYPE none", "+none·", ""),
        ("TOUCH a b none", ":2·", ""),
        ("PEXPIRE a 100000", ":1·", ""),
        ("RENAME a b", "+OK·", ""),
        ("MGET a b", "*2·$-1·$1·1·", "*2·_·$1·1·"),
        ("TTL b", ":100·", ""),
        ("RENAME b b", "+OK·", ""),
        ("RENAMENX b b", ":0·", ""),
        ("RENAMENX b c", ":0·", ""),
        ("RENAMENX b d", ":1·", ""),
        ("RENAME none a", "-ERR no such key·", ""),
        ("RENAMENX none none", "-ERR no such key·", ""),
        ("COPY d e", ":1·", ""),
        ("COPY d c", ":0·", ""),
        ("COPY none c", ":0·", ""),
        ("COPY d c REPLACE DB 0", ":1·", ""),
        ("MGET c d e", "*3·$1·1·$1·1·$1·1·", ""),
        ("TTL c", ":100·", ""),
        ("COPY d d", "-ERR source and destination objects are the same·", ""),
        ("COPY d e DB 1", "-ERR DB index is out of range·", ""),
        ("COPY d e FOO", "-ERR syntax error·", ""),
        ("DBSIZE", ":3·", ""),
    ]);
}

#[test]
fn iterations() {
    check(&[
        ("RANDOMKEY", "$-1·", "_·"),
        ("KEYS *", "*0·", ""),
        ("SCAN 0", "*2·$1·0·*0·", ""),
        ("SET key v", "+OK·", ""),
        ("RANDOMKEY", "$3·key·", ""),
        ("KEYS k[a-f]?", "*1·$3·key·", ""),
        ("KEYS K*", "*0·", ""),
        ("SCAN 0", "*2·$1·0·*1·$3·key·", ""),
        ("SCAN 0 MATCH k* COUNT 1 TYPE STRING", "*2·$1·0·*1·$3·key·", ""),
        ("SCAN 0 MATCH a*", "*2·$1·0·*0·", ""),
        ("SCAN 0 TYPE list", "*2·$1·0·*0·", ""),
        ("SCAN 18446744073709551615", "*2·$1·0·*0·", ""),
        ("SCAN x", "-ERR invalid cursor·", ""),
        ("SCAN 18446744073709551616", "-ERR invalid cursor·", ""),
        ("SCAN 0 COUNT 0", "-ERR syntax error·", ""),
        ("SCAN 0 COUNT x", NOT_AN_INTEGER, ""),
        ("SCAN 0 COUNT", "-ERR syntax error·", ""),
        ("SCAN 0 FOO 1", "-ERR syntax error·", ""),
    ]);
    let mut server = Server::new();
    let long = "*".repeat(1025);
    let refused = "-ERR the pattern is above 1024 bytes, the most that this server takes·";
    for line in [
        format!("KEYS {long}"),
        format!("SCAN 0 MATCH {long}"),
        format!("CONFIG GET {long}"),
        format!("CONFIG GET {}", format!("{} ", &long[..100]).repeat(11)),
        format!("COMMAND LIST FILTERBY PATTERN {long}"),
    ] {
        assert_eq!(server.line(&line), refused, "{}", &line[..20]);
    }
    let set = (0..100).map(|n| format!("SET key:{n} v\r\n")).collect::<String>();
    server.feed(set.as_bytes());
    let random =
        (0..50).map(|_| server.line("RANDOMKEY")).collect::<std::collections::BTreeSet<_>>();
    assert!(random.len() > 10, "{random:?}");
}

#[test]
fn command_describes_the_table() {
    let mut server = Server::new();
    let get = "*10·$3·get·:2·*2·+readonly·+fast·:1·:1·:1·*3·+@read·+@string·+@fast·*0·\
               *1·*6·$5·flags·*2·+RO·+access·$12·begin_search·*4·$4·type·$5·index·$4·spec·*2·\
               $5·index·:1·$9·find_keys·*4·$4·type·$5·range·$4·spec·*6·$7·lastkey·:0·\
               $7·keystep·:1·$5·limit·:0·*0·";
    assert_eq!(server.line("COMMAND INFO get none"), format!("*2·{get}$-1·"));
    let count = mainstay_kv::command::COMMANDS.len();
    assert_eq!(server.line("COMMAND COUNT"), format!(":{count}·"));
    assert!(server.line("COMMAND").starts_with(&format!("*{count}·*10·$6·append·:3·")));
    assert!(server.line("COMMAND").contains(get));
    assert_eq!(server.line("COMMAND"), server.line("COMMAND INFO"));
    assert!(server.line("COMMAND LIST").starts_with(&format!("*{count}·$6·append·")));
    assert_eq!(
        server.line("COMMAND LIST FILTERBY PATTERN f*b"),
        "*1·$7·flushdb·",
        "patterns are those of CONFIG GET"
    );
    assert_eq!(
        server.line("COMMAND DOCS get none"),
        "*2·$3·get·*6·$7·summary·$19·The value of a key.·$5·since·$5·1.0.0·$5·group·$6·string·"
    );
    assert!(server.line("COMMAND DOCS client").contains("$9·client|id·"));
    assert!(server.line("COMMAND DOCS").starts_with(&format!("*{}·", 2 * count)));
    assert!(server.line("COMMAND INFO client|id").starts_with("*1·*10·$9·client|id·:2·"));
    for (line, answer) in [
        ("COMMAND GETKEYS MSET a 1 b 2", "*2·$1·a·$1·b·"),
        ("COMMAND GETKEYS GET k", "*1·$1·k·"),
        ("COMMAND GETKEYS MGET a b c", "*3·$1·a·$1·b·$1·c·"),
        ("COMMAND GETKEYS foo a", "-ERR Invalid command specified·"),
        ("COMMAND GETKEYS PING a", "-ERR The command has no key arguments·"),
        ("COMMAND GETKEYS", "-ERR wrong number of arguments for 'command|getkeys' command·"),
        ("COMMAND GETKEYS GET", "-ERR Invalid number of arguments specified for command·"),
        ("COMMAND GETKEYS GET a b", "-ERR Invalid number of arguments specified for command·"),
    ] {
        assert_eq!(server.line(line), answer, "{line}");
    }
    for parent in ["CLIENT", "COMMAND", "CONFIG"] {
        assert!(server.line(&format!("{parent} HELP")).contains("+HELP -- Lists these"));
    }
    server.line("HELLO 3");
    assert!(server.line("COMMAND DOCS get").starts_with("%1·$3·get·%3·"));
    assert!(server.line("COMMAND INFO get").starts_with("*1·*10·$3·get·:2·~2·+readonly·"));
    assert_eq!(server.line("COMMAND INFO none"), "*1·_·");
}

#[test]
fn a_pipeline_is_answered_in_order() {
    let mut server = Server::new();
    let answers = server.feed(
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\nGET k\r\n\r\n*0\r\nHELLO x\r\nPING\r\n*1\r\n$4\r\nPI",
    );
    assert_eq!(
        String::from_utf8_lossy(&answers),
        "+OK\r\n$1\r\nv\r\n-ERR Protocol version is not an integer or out of range\r\n+PONG\r\n"
    );
}

/// What client libraries send before their first command, as their sources have it; whether each
/// may be refused.
#[test]
fn client_libraries_can_connect() {
    let sequences: [(&str, &[(&str, bool)]); 6] = [
        (
            "redis-py 8",
            &[
                ("HELLO 3", false),
                ("CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type internal-ip", true),
                ("CLIENT SETNAME me", false),
                ("CLIENT SETINFO LIB-NAME redis-py", false),
                ("CLIENT SETINFO LIB-VER 8.1.0", false),
                ("PING", false),
            ],
        ),
        (
            "ioredis",
            &[
                ("hello 3", false),
                ("client setinfo LIB-VER 5.4.1", false),
                ("client setinfo LIB-NAME ioredis", false),
                ("info", false),
            ],
        ),
        (
            "go-redis",
            &[
                ("hello 3 setname me", false),
                ("client setinfo LIB-NAME go-redis(,go1.22)", false),
                ("client setinfo LIB-VER 9.7.0", false),
                ("client maint_notifications on moving-endpoint-type external-ip", true),
            ],
        ),
        (
            "redis-rs",
            &[
                ("HELLO 3", false),
                ("CLIENT SETINFO LIB-NAME redis-rs", false),
                ("CLIENT SETINFO LIB-VER 1.0.0", false),
            ],
        ),
        (
            "redis-cli",
            &[
                ("COMMAND DOCS", false),
                ("COMMAND", false),
                ("INFO SERVER", false),
                ("CONFIG GET databases", false),
                ("SELECT 0", false),
            ],
        ),
        (
            "redis-benchmark",
            &[("CONFIG GET save", false), ("CONFIG GET appendonly", false), ("PING", false)],
        ),
    ];
    for (library, lines) in sequences {
        let mut server = Server::new();
        for (line, may_be_refused) in lines {
            let answer = server.line(line);
            assert_eq!(answer.starts_with('-'), *may_be_refused, "{library}: {line}: {answer}");
            assert!(!server.closed, "{library}: {line}");
        }
    }
}

#[test]
fn a_version_chosen_in_a_pipeline_holds_from_there_on() {
    let mut server = Server::new();
    let answers = server.feed(b"GET none\r\nHELLO 3\r\nGET none\r\nRESET\r\nGET none\r\n");
    let answers = String::from_utf8_lossy(&answers);
    assert!(answers.starts_with("$-1\r\n%7\r\n"), "{answers}");
    assert!(answers.ends_with("*0\r\n_\r\n+RESET\r\n$-1\r\n"), "{answers}");
}

#[test]
fn what_ends_a_connection() {
    for (bytes, answer) in [
        (&b"QUIT\r\nPING\r\n"[..], "+OK·"),
        (b"PING\r\n*x\r\nPING\r\n", "+PONG·-ERR Protocol error: invalid multibulk length·"),
        (b"set 'a\r\nPING\r\n", "-ERR Protocol error: unbalanced quotes in request·"),
        (
            b"POST / HTTP/1.1\r\nPING\r\n",
            "-ERR this port speaks the Redis protocol; what came looks like HTTP·",
        ),
    ] {
        let mut server = Server::new();
        let answers = server.feed(bytes);
        assert_eq!(String::from_utf8_lossy(&answers).replace("\r\n", "·"), answer);
        assert!(server.closed);
        assert_eq!(server.feed(b"PING\r\n"), b"", "nothing is read any more");
    }
}

#[test]
fn what_is_too_large_is_refused() {
    let mut server = Server::new();
    let value = vec![b'x'; mainstay_kv::VALUE_LEN_MAX];
    let head = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", value.len());
    let set = [head.as_bytes(), &value, b"\r\n"];
    assert_eq!(server.feed(&set.concat()), b"+OK\r\n");
    assert_eq!(
        server.line("MGET k k k k"),
        "-ERR the reply would be above 64 MiB: ask for fewer keys at once·"
    );
    let head = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", value.len() + 1);
    assert_eq!(
        server.feed(&[head.as_bytes(), &value, b"y\r\nSTRLEN k\r\n"].concat()),
        b"-ERR a key or value is above 16 MiB, the most that this server takes\r\n:16777216\r\n"
    );
    assert!(server.line("MGET k k k").starts_with("*3·$16777216·xxx"));
    assert_eq!(
        server.line("APPEND k y"),
        "-ERR string exceeds maximum allowed size (proto-max-bulk-len)·"
    );
}

#[test]
fn what_the_front_answers_by_itself_is_not_many_times_the_question() {
    let mut server = Server::new();
    let many = format!("COMMAND INFO {}", "client ".repeat(255));
    assert_eq!(server.line(&many), "-ERR a command of this kind takes at most 256 arguments·");
    let few = format!("COMMAND INFO {}", "client ".repeat(254));
    let answer = server.line(&few);
    assert!(answer.starts_with("*254·") && answer.len() < 4 << 20, "{}", answer.len());
}

#[test]
fn failures_begin_with_words_that_clients_know() {
    for (failure, word) in [
        (Failure::Unavailable, "-CLUSTERDOWN "),
        (Failure::Crowded, "-TRYAGAIN "),
        (Failure::Loading, "-LOADING "),
        (Failure::NoRoom, "-MISCONF "),
        (Failure::TooLarge, "-ERR "),
        (Failure::Uncertain, "-UNCERTAIN "),
        (Failure::Stopped, "-CLUSTERDOWN "),
    ] {
        let mut out = Vec::new();
        RedisFront::default().write(3, Outcome::Failed(failure), &mut out);
        let text = String::from_utf8(out).expect("errors are text");
        assert!(text.starts_with(word) && text.ends_with("\r\n"), "{text}");
        assert!(!text.contains("  "), "{text}");
    }
    let mut out = Vec::new();
    RedisFront::default().refuse(
        RejectCode::TooMany,
        "replica 1 serves 3 clients already",
        &mut out,
    );
    assert_eq!(out, b"-ERR max number of clients reached\r\n", "what go-redis compares with");
    let mut out = Vec::new();
    RedisFront::default().write(2, Outcome::Reply(b"\xff"), &mut out);
    assert!(out.starts_with(b"-ERR the reply of the service cannot be read"));
}

#[test]
fn a_connection_that_is_readonly_wants_stale_reads_until_it_says_otherwise() {
    let parsed = |lines: &str| {
        let mut front = RedisFront::default();
        let mut connection = front.connect(1, client_address());
        let (mut input, mut parsed) = (BytesMut::from(lines), Vec::new());
        front.read(&mut connection, &View::default(), &mut input, 100, &mut parsed);
        let kind = |parsed: &Parsed| match parsed {
            Parsed::Write { .. } => 'w',
            Parsed::Read { .. } => 'r',
            Parsed::ReadStale { .. } => 's',
            Parsed::Answer(_) => 'a',
            Parsed::Close(_) => 'c',
        };
        parsed.iter().map(kind).collect::<String>()
    };
    assert_eq!(parsed("GET a\r\nreadonly\r\nGET a\r\nSET a 1\r\nTTL a\r\nDBSIZE\r\n"), "raswss");
    assert_eq!(parsed("READONLY\r\nREADWRITE\r\nGET a\r\n"), "aar");
    assert_eq!(parsed("READONLY\r\nRESET\r\nGET a\r\n"), "aar");
    assert_eq!(parsed("READONLY now\r\nGET a\r\n"), "ar", "with an argument it is refused");
}
