//! One entry a decoder for arbitrary bytes: for property tests and fuzzers. None may panic, hang or
//! use memory beyond its limits, whatever the bytes are.

use mainstay_service::Service as _;

use crate::operation::Operation;
use crate::reply::Reply;
use crate::resp::{Limits, Parser, Writer};
use crate::store::Store;

/// Reads requests of the Redis protocol, once whole and once cut at places that the first byte
/// chooses, and asserts that both read the same.
pub fn requests(bytes: &[u8]) {
    let piece_len = bytes.first().map_or(1, |&byte| usize::from(byte % 16) + 1);
    let limits = Limits { line_len_max: 256, request_len_max: 4096, ..Limits::default() };
    assert_eq!(parse(bytes, bytes.len().max(1), limits), parse(bytes, piece_len, limits));
}

/// Every request with its arguments, and what ends them.
fn parse(bytes: &[u8], piece_len: usize, limits: Limits) -> (Vec<Vec<Vec<u8>>>, Option<String>) {
    let (mut parser, mut input, mut requests) = (Parser::new(limits), Vec::new(), Vec::new());
    for piece in bytes.chunks(piece_len) {
        input.extend_from_slice(piece);
        loop {
            match parser.next(&input) {
                Ok(None) => break,
                Err(error) => return (requests, Some(error.to_string())),
                Ok(Some(request)) => {
                    requests.push(request.arguments.from(0).map(<[u8]>::to_vec).collect());
                    let len = request.len;
                    input.drain(..len);
                }
            }
        }
    }
    (requests, None)
}

/// Reads an operation and carries it out on an empty store; one that is read encodes to the same
/// bytes again.
pub fn operation(bytes: &[u8]) {
    if let Ok(operation) = Operation::decode(bytes) {
        assert_eq!(operation.encode(), bytes);
        let context = mainstay_service::QueryContext {
            slot: mainstay_model::Slot::FIRST,
            time: mainstay_model::Timestamp(0),
        };
        let mut reply = Vec::new();
        Store::default().query(&context, bytes, &mut reply);
        self::reply(&reply);
    }
}

/// Reads a reply of the service; one that is read encodes to the same bytes again, and to both
/// versions of the Redis protocol.
pub fn reply(bytes: &[u8]) {
    if let Ok(reply) = Reply::decode(bytes) {
        let mut again = Vec::new();
        reply.encode(&mut again);
        assert_eq!(again, bytes);
        for version in [crate::resp::Version::Resp2, crate::resp::Version::Resp3] {
            Writer::new(&mut again, version).reply(&reply);
        }
    }
}

/// Reads a checkpoint.
pub fn checkpoint(bytes: &[u8]) {
    if let Ok(mut store) = Store::restore(&mut &bytes[..]) {
        let mut again = Vec::new();
        mainstay_service::Checkpoint::write(&store.checkpoint(), &mut again)
            .expect("a vector takes every byte");
        assert!(bytes.starts_with(&again));
    }
}
