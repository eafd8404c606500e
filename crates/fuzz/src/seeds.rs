//! The golden bytes of the formats, read from the files that their own tests compare with.

use mainstay_model::GroupId;
use mainstay_model::frame;

/// The lines of a golden file that are no blank ones.
fn lines(golden: &str) -> impl Iterator<Item = &str> {
    golden.lines().map(str::trim).filter(|line| !line.is_empty())
}

/// Bytes written as hexadecimal digits, with or without space between them. Golden files hold nothing
/// else there.
fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u32> = digits
        .chars()
        .filter(|digit| !digit.is_whitespace())
        .map(|digit| digit.to_digit(16).expect("a golden file holds hexadecimal digits"))
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8))
        .collect()
}

/// Lines of a kind, perhaps a name, and a body: the kind in two bytes, then the body.
fn kind_and_body(golden: &str) -> Vec<Vec<u8>> {
    let read = |line: &str| {
        let mut words = line.split(' ');
        let kind: u16 = words.next().and_then(|word| word.parse().ok()).expect("a kind");
        [&kind.to_le_bytes()[..], &hex(words.next_back().unwrap_or_default())].concat()
    };
    lines(golden).map(read).collect()
}

/// Lines of a description, a colon, and bytes.
fn described(golden: &str) -> impl Iterator<Item = (&str, Vec<u8>)> {
    lines(golden).map(|line| {
        let (what, bytes) = line.rsplit_once(": ").expect("a description and bytes");
        (what, hex(bytes))
    })
}

/// A file: its name and length, then lines of 16 bytes behind their place; what is left out is zero.
fn dumped(golden: &str) -> Vec<u8> {
    let mut lines = lines(golden);
    let head = lines.next().expect("a head");
    let len = head.rsplit_once(": ").and_then(|(_, len)| len.strip_suffix(" bytes"));
    let len: usize = len.and_then(|len| len.parse().ok()).expect("a length");
    let mut bytes = vec![0; len];
    for line in lines {
        let (place, content) = line.split_once(": ").expect("a place and bytes");
        let place = usize::from_str_radix(place, 16).expect("a place");
        let content = hex(content);
        bytes[place..place + content.len()].copy_from_slice(&content);
    }
    bytes
}

pub(crate) fn frames() -> Vec<Vec<u8>> {
    let golden = include_str!("../../model/tests/golden/hello-1.txt");
    let bodies: Vec<Vec<u8>> =
        lines(golden).map(|line| hex(line.split(' ').next_back().unwrap_or_default())).collect();
    let framed = |body: &Vec<u8>| {
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, 1, GroupId::NODE, 0, |to| to.extend_from_slice(body));
        bytes
    };
    bodies.iter().map(framed).chain(bodies.iter().cloned()).collect()
}

pub(crate) fn peers() -> Vec<Vec<u8>> {
    kind_and_body(include_str!("../../protocol/consensus/tests/golden/messages-1.txt"))
}

pub(crate) fn clients() -> Vec<Vec<u8>> {
    kind_and_body(include_str!("../../service/tests/golden/native-1.txt"))
}

const ENCODINGS: &str = include_str!("../../kv/tests/golden/encodings.txt");

pub(crate) fn redis() -> Vec<Vec<u8>> {
    let requests = [
        &b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"[..],
        b"SET k \"a \\x00 b\" EX 12\r\nPING\r\n",
        b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n",
    ];
    let encodings = described(ENCODINGS).filter(|(what, _)| !what.starts_with("checkpoint"));
    requests.map(<[u8]>::to_vec).into_iter().chain(encodings.map(|(_, bytes)| bytes)).collect()
}

pub(crate) fn store() -> Vec<Vec<u8>> {
    let checkpoints = described(ENCODINGS).filter(|(what, _)| what.starts_with("checkpoint"));
    checkpoints.map(|(_, bytes)| bytes).collect()
}

pub(crate) fn disk() -> Vec<Vec<u8>> {
    let files = [
        include_str!("../../storage/tests/golden/checkpoint.txt"),
        include_str!("../../storage/tests/golden/identity.txt"),
        include_str!("../../storage/tests/golden/incoming.txt"),
        include_str!("../../storage/tests/golden/segment-1.txt"),
        include_str!("../../storage/tests/golden/segment-2.txt"),
        include_str!("../../storage/tests/golden/segment-3.txt"),
    ];
    files.into_iter().map(dumped).collect()
}

/// The files that the guide shows.
pub(crate) fn configuration() -> Vec<Vec<u8>> {
    let guide = include_str!("../../../docs/operating.md");
    let blocks: Vec<&str> =
        guide.split("```toml\n").skip(1).filter_map(|block| block.split("```").next()).collect();
    let whole = blocks.concat();
    blocks.into_iter().map(str::to_owned).chain([whole]).map(String::into_bytes).collect()
}
