//! One harness over what reads checkpoints, for property tests and fuzzers.

use std::io::{self, Read};

use mainstay_model::{CheckpointId, ClusterId, GroupId, Slot};

use super::layout::{HEAD_LEN, Head, file_name, incoming_name};
use super::{CheckpointOptions, Checkpoints};
use crate::memory::MemoryDisk;

/// Reads `bytes` as a checkpoint, whole and in part, as they are and with a head made right.
pub(crate) fn decode_any(bytes: &[u8]) {
    let mut sealed = bytes.to_vec();
    if sealed.len() >= HEAD_LEN {
        Head::seal(&mut sealed[..HEAD_LEN]);
    }
    for bytes in [bytes, &sealed] {
        let mut head = [0; HEAD_LEN];
        let len = bytes.len().min(HEAD_LEN);
        head[..len].copy_from_slice(&bytes[..len]);
        let anyone = CheckpointId { slot: Slot(1), digest: 2 };
        let (id, options) = match Head::decode(&head) {
            Ok(head) => {
                let Head { cluster, group, service_version, id, .. } = head;
                (id, CheckpointOptions::new(cluster, group, service_version))
            }
            Err(_) => (anyone, CheckpointOptions::new(ClusterId(0), GroupId::FIRST, 0)),
        };
        open(id, options, bytes);
    }
}

fn open(id: CheckpointId, options: CheckpointOptions, bytes: &[u8]) {
    let files = [file_name(id), incoming_name(id)].map(|name| (name, bytes.to_vec()));
    let Ok((checkpoints, _)) = Checkpoints::open(MemoryDisk::with_files(files), options) else {
        return;
    };
    if let Ok(content) = checkpoints.open_content(id) {
        let _ = io::copy(&mut content.take(1 << 20), &mut io::sink());
    }
    let _ = checkpoints.read_chunk(id, 0, 512);
    let _ = checkpoints.read_chunk(id, u64::from(u32::MAX), 1 << 20);
    if let Some(partial) = checkpoints.partial()
        && let Ok(mut incoming) = checkpoints.incoming(id, partial.total, partial.chunk_bytes)
    {
        let _ = incoming.append_chunk(0, &vec![1; partial.chunk_bytes as usize]);
        let _ = incoming.install();
    }
}
