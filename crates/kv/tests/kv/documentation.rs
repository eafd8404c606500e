//! The tables in `docs/commands.md` are those of the code. `UPDATE=1` writes them anew.

use std::fmt::Write as _;

use mainstay_kv::command::{COMMANDS, Run, Spec};

const BEGIN: &str = "<!-- commands: written by the test `documentation` of crates/kv -->\n";
const END: &str = "<!-- end of commands -->\n";

fn row(out: &mut String, parent: &str, spec: &Spec) {
    let kind = match spec.run {
        Run::Write(_) => "orders",
        Run::Read(_) => "asks",
        Run::Local(_) | Run::Parent => "answers",
    };
    let name = format!("{parent}{}", spec.name.to_ascii_uppercase());
    writeln!(out, "| `{name}` | {kind} | {} | {} | {} |", spec.arity, spec.summary, spec.differs)
        .expect("a string takes every character");
}

#[test]
fn the_guide_lists_every_command() {
    let mut table = String::from(BEGIN);
    table
        .push_str("| command | how | arity | does | differs from Redis |\n|---|---|---|---|---|\n");
    for spec in COMMANDS {
        if !matches!(spec.run, Run::Parent) {
            row(&mut table, "", spec);
        }
        for subcommand in spec.subcommands {
            row(&mut table, &format!("{} ", spec.name.to_ascii_uppercase()), subcommand);
        }
    }
    table.push_str(END);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/commands.md");
    let text = std::fs::read_to_string(path).expect("docs/commands.md can be read");
    let begin = text.find(BEGIN).expect("the begin of the table is marked");
    let end = text.find(END).expect("the end of the table is marked") + END.len();
    if std::env::var_os("UPDATE").is_some() {
        let updated = [&text[..begin], &table, &text[end..]].concat();
        std::fs::write(path, updated).expect("docs/commands.md can be written");
        return;
    }
    assert_eq!(&text[begin..end], table, "run this test with UPDATE=1 and look at the difference");
}
