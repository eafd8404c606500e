//! Clients that send reads and writes in bursts, each over one connection, while others do the same.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use mainstay_check::history::History;
use mainstay_check::kv_model::{KvModel, KvOp, KvRet};
use mainstay_check::linearizability::{STEPS_MAX, Verdict, check_partitioned_pipelines};
use mainstay_model::Prng;

use crate::world::Cluster;
use crate::world::cluster::REPLICAS;
use crate::world::raw::Raw;

const CLIENTS: u64 = 6;
const BURSTS: usize = 60;
const BURST_MAX: u64 = 24;
const KEYS: [&str; 3] = ["a", "b", "c"];

/// What is asked of one key, with its reply once it has come.
struct Asked {
    op: KvOp,
    invoked: u64,
    returned: Option<(KvRet, u64)>,
}

/// Sends bursts and reads all replies to each; ends early where a replica refuses.
fn burst(process: u64, address: SocketAddr, start: Instant, unique: &AtomicU64) -> Vec<Asked> {
    let mut prng = Prng::new(process);
    let mut client = Raw::connect(address);
    let mut all = Vec::new();
    let now = || start.elapsed().as_nanos() as u64;
    for _ in 0..BURSTS {
        let (first, mut bytes) = (all.len(), String::new());
        for _ in 0..=prng.below(BURST_MAX) {
            let key = KEYS[prng.below(KEYS.len() as u64) as usize];
            let name = Bytes::from_static(key.as_bytes());
            let op = if prng.chance(1, 2) {
                bytes.push_str(&format!("GET {key}\r\n"));
                KvOp::Get(name)
            } else {
                let value = unique.fetch_add(1, Ordering::Relaxed).to_string();
                bytes.push_str(&format!("SET {key} {value}\r\n"));
                KvOp::Set(name, Bytes::from(value))
            };
            all.push(Asked { op, invoked: now(), returned: None });
        }
        assert!(client.send(bytes.as_bytes()), "it is taken");
        for asked in &mut all[first..] {
            let reply = client.reply();
            let ret = match reply.as_bytes()[0] {
                b'+' => KvRet::Ok,
                b'$' if reply.starts_with("$-1") => KvRet::Value(None),
                b'$' => {
                    let value = reply.lines().nth(1).unwrap_or_default().to_owned();
                    KvRet::Value(Some(Bytes::from(value)))
                }
                _ => panic!("{reply}"),
            };
            asked.returned = Some((ret, now()));
        }
    }
    all
}

/// The lead is handed over on the way, so that writes are sent again with their reads before them.
#[test]
fn bursts_of_reads_and_writes_are_carried_out_in_turn() {
    let cluster = Cluster::start(&[]);
    let (leader, _, others) = cluster.leader();
    let (start, unique) = (Instant::now(), Arc::new(AtomicU64::new(1)));
    let spawn = |process: u64| {
        let address = cluster.clients_at(process as usize % REPLICAS);
        let unique = Arc::clone(&unique);
        thread::spawn(move || burst(process, address, start, &unique))
    };
    let threads: Vec<_> = (0..CLIENTS).map(spawn).collect();
    let folder = cluster.data().to_string_lossy().into_owned();
    let to = others[0].to_string();
    let moved = cluster.run(&["leader", "move", &to, "--data", &folder]);
    assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
    assert_ne!(cluster.status().leader(), Some(leader));
    let mut history: History<KvOp, KvRet> = History::new();
    for (process, thread) in (0..).zip(threads) {
        for Asked { op, invoked, returned } in thread.join().expect("a client that got its replies")
        {
            let id = history.invoke(process, op, invoked);
            if let Some((ret, at)) = returned {
                history.returned(id, ret, at);
            }
        }
    }
    println!("{} commands in bursts", history.len());
    let verdict = check_partitioned_pipelines(&KvModel, &history, 10 * STEPS_MAX);
    assert_eq!(verdict, Verdict::Linearizable, "{verdict:?}");
}
