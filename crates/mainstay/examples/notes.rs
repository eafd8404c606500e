//! A notebook that keeps no more notes than its operator allows: `NOTES_MAX` in the environment. What
//! is written down already cannot be restored by a program that allows less.

use mainstay::{Apply, Context, Lines, Plain};
use serde::{Deserialize, Serialize};

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
struct Notes(Vec<String>);

fn allowed() -> usize {
    std::env::var("NOTES_MAX").ok().and_then(|max| max.parse().ok()).unwrap_or(usize::MAX)
}

impl TryFrom<Vec<String>> for Notes {
    type Error = String;

    fn try_from(notes: Vec<String>) -> Result<Self, String> {
        match notes.len() {
            len if len > allowed() => {
                Err(format!("it holds {len} notes, and {} are allowed", allowed()))
            }
            _ => Ok(Self(notes)),
        }
    }
}

impl From<Notes> for Vec<String> {
    fn from(notes: Notes) -> Self {
        notes.0
    }
}

impl Apply for Notes {
    fn apply(&mut self, _: &Context, request: &[u8], reply: &mut Vec<u8>) {
        if let Some(note) = String::from_utf8_lossy(request).strip_prefix("note ") {
            self.0.push(note.to_owned());
        }
        reply.extend(self.0.len().to_string().bytes());
    }
}

fn main() -> std::process::ExitCode {
    mainstay::run::<Plain<Notes>, Lines>()
}
