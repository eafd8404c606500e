//! Bytes in, bytes out.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::world::DEADLINE;

/// A connection without a client library.
pub(crate) struct Raw(TcpStream);

impl Raw {
    /// Connects.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
        stream.set_write_timeout(Some(DEADLINE)).expect("a time-out");
        Self(stream)
    }

    /// Sends bytes; `false` if the other side does not take them.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// Sends a command as clients of Redis do.
    pub(crate) fn command(&mut self, words: &[&str]) {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes());
        }
        assert!(self.send(&bytes), "{words:?} is taken");
    }

    /// One reply, whole, as text.
    pub(crate) fn reply(&mut self) -> String {
        let mut text = String::new();
        let mut open = 1_u64;
        while open > 0 {
            open -= 1;
            let line = self.line();
            let (kind, rest) = (line.chars().next(), line.get(1..).unwrap_or_default());
            let count = || rest.trim().parse::<i64>().unwrap_or(-1).max(0) as u64;
            match kind {
                Some('*' | '~' | '>') => open += count(),
                Some('%') => open += 2 * count(),
                Some('$' | '=') if !rest.starts_with('-') => {
                    let mut bytes = vec![0; count() as usize + 2];
                    self.0.read_exact(&mut bytes).expect("the rest of a reply");
                    text.push_str(&line);
                    text.push_str(&String::from_utf8_lossy(&bytes));
                    continue;
                }
                _ => {}
            }
            text.push_str(&line);
        }
        text
    }

    fn line(&mut self) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).expect("a reply");
            bytes.push(byte[0]);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Everything until the other side closes.
    pub(crate) fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match self.0.read(&mut buffer) {
                Ok(0) => break,
                Ok(len) => bytes.extend_from_slice(&buffer[..len]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(error) => panic!("it neither answers nor closes: {error}"),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
