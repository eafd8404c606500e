//! Scripts: what happens, a line each, as a figure shows it. A script fails unless every message is
//! sent as it says, nothing else is sent, and every replica executes what it says and nothing else.
//!
//! | line | means |
//! |---|---|
//! | `given r0 leads` | the group begins led, with slot 1 decided; otherwise nobody has led yet |
//! | `given disks sync when told` | otherwise they sync at once |
//! | `given checkpoints every 4 slots` | otherwise there are none |
//! | `client -> r0 a` | a client asks r0 for a |
//! | `r0 -> r1 Accept …` | this message is on its way, and arrives |
//! | `r0 -x r1 Accept …` | this message is on its way, and is lost |
//! | `r0 executes 2=a 3=b` | r0 was handed a in slot 2, next, and b in slot 3 |
//! | `r0 installs 4` | r0 has put a checkpoint of slot 4 in the place of its state |
//! | `r0 syncs`, `r0 waits`, `r0 stands` | its disk; until its next time-out; as candidate |
//! | `r0 suspects r1` | its failure detector says so |
//! | `r0 crashes`, `r0 is back` | messages to it are lost meanwhile |
//! | `all arrives`, `all arrives but at r2` | whatever is sent, until nothing is |
//! | `nothing is on its way` | said at the end of every script, too |

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use mainstay_consensus::Input;
use mainstay_model::Slot;

use crate::node::{self, Stage, World};

struct Script {
    stage: Stage,
    /// The last slot that the script has shown as executed.
    shown: Vec<Slot>,
    down: BTreeSet<usize>,
}

/// Plays a script of this folder.
pub(crate) fn play(name: &str, world: World) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/small/figures");
    let text = fs::read_to_string(folder.join(name)).expect("the script can be read");
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let lines: Vec<_> = lines.filter(|(_, l)| !l.is_empty() && !l.starts_with('#')).collect();
    let (given, happens): (Vec<_>, Vec<_>) =
        lines.into_iter().partition(|(_, line)| line.starts_with("given "));
    let mut script = Script::new(world, given.into_iter().map(|(_, line)| &line[6..]));
    for (at, line) in happens {
        if let Err(why) = script.line(line) {
            panic!("{name}, line {at}: {line}\n{why}\n{}", script.picture());
        }
    }
    if let Err(why) = script.line("nothing is on its way") {
        panic!("{name}, at its end\n{why}\n{}", script.picture());
    }
}

/// The index in "r0".
fn replica(text: &str) -> Result<usize, String> {
    let index = text.strip_prefix('r').and_then(|digits| digits.parse().ok());
    index.ok_or_else(|| format!("{text} is no replica"))
}

impl Script {
    fn new<'a>(mut world: World, given: impl Iterator<Item = &'a str>) -> Self {
        let mut led = false;
        for given in given {
            match given {
                "r0 leads" => led = true,
                "disks sync when told" => world.sync_at_once = false,
                _ => {
                    let slots = given.strip_prefix("checkpoints every ");
                    let slots = slots.and_then(|rest| rest.strip_suffix(" slots"));
                    let slots = slots.and_then(|slots| slots.parse().ok());
                    world.checkpoint_slots = slots.unwrap_or_else(|| panic!("given {given}?"));
                }
            }
        }
        let stage = if led { Stage::led(world) } else { Stage::new(world) };
        let first = if led { Slot(1) } else { Slot::NONE };
        Self { shown: vec![first; stage.nodes.len()], stage, down: BTreeSet::new() }
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["client", "->", to, request] => {
                let to = replica(to)?;
                self.stage.at(to, |world, node, sent| world.ask(node, request, sent));
                Ok(())
            }
            [from, "->" | "-x", to, _, ..] => {
                let (from, to) = (replica(from)?, replica(to)?);
                let arrow = words[1];
                let text = line.split_once(arrow).map_or("", |(_, rest)| rest.trim());
                let text = text.split_once(' ').map_or("", |(_, text)| text.trim());
                self.message(from, to, text, arrow == "->")
            }
            ["all", "arrives", rest @ ..] => self.settle(rest),
            ["nothing", "is", "on", "its", "way"] => self.nothing_is_left(),
            [at, rest @ ..] => self.happens(replica(at)?, rest),
            [] => Ok(()),
        }
    }

    fn message(&mut self, from: usize, to: usize, text: &str, arrives: bool) -> Result<(), String> {
        let place = self.stage.on_the_way.iter().position(|envelope| {
            (envelope.from, envelope.to) == (from, to) && envelope.message.to_string() == text
        });
        let place = place.ok_or("this message is not on its way")?;
        match (arrives, self.down.contains(&to)) {
            (true, true) => return Err(format!("r{to} is down")),
            (true, false) => self.stage.hand_over(place),
            (false, _) => drop(self.stage.on_the_way.remove(place)),
        }
        Ok(())
    }

    fn settle(&mut self, rest: &[&str]) -> Result<(), String> {
        let but = match rest {
            [] => None,
            ["but", "at", at] => Some(replica(at)?),
            _ => return Err("all arrives but where?".to_owned()),
        };
        let down = self.down.clone();
        self.stage.settle(|envelope| Some(envelope.to) == but || down.contains(&envelope.to));
        Ok(())
    }

    fn happens(&mut self, at: usize, what: &[&str]) -> Result<(), String> {
        match what {
            ["syncs"] => self.stage.at(at, |world, node, sent| world.sync(node, sent)),
            ["waits"] => self.stage.at(at, |world, node, sent| world.wait(node, sent)),
            ["stands"] => self.stage.at(at, |world, node, sent| world.stand(at, node, sent)),
            ["suspects", peer] => {
                let peer = node::id(replica(peer)? as u16);
                let input = Input::Suspicion { peer, suspected: true };
                self.stage.at(at, |world, node, sent| world.feed(node, input, sent));
            }
            ["crashes"] if self.down.contains(&at) => return Err("it is down".to_owned()),
            ["crashes"] => {
                self.down.insert(at);
            }
            ["is", "back"] => {
                self.down.remove(&at);
                self.stage.at(at, |world, node, sent| world.restart(at as u16, node, 0, sent));
            }
            ["executes", entries @ ..] => {
                return entries.iter().try_for_each(|entry| self.executes(at, entry));
            }
            ["installs", slot] => return self.installs(at, slot),
            _ => return Err("no such line".to_owned()),
        }
        Ok(())
    }

    fn next_executed(&self, at: usize) -> Option<(Slot, String)> {
        let mut told = self.stage.nodes[at].past.told.range(self.shown[at].next()..);
        told.next().map(|(slot, value)| (*slot, format!("{}={}", slot.0, node::requests(value))))
    }

    fn executes(&mut self, at: usize, entry: &str) -> Result<(), String> {
        let (slot, text) = self.next_executed(at).ok_or("it has executed nothing more")?;
        if text != entry {
            return Err(format!("it has executed {text}"));
        }
        self.shown[at] = slot;
        Ok(())
    }

    fn installs(&mut self, at: usize, slot: &str) -> Result<(), String> {
        let node = &self.stage.nodes[at];
        let last = node.past.installed.last().ok_or("it has installed nothing")?;
        if last.slot.0.to_string() != slot || node.executor.applied < last.slot {
            return Err(format!("it has installed {}", last.slot.0));
        }
        self.shown[at] = last.slot;
        Ok(())
    }

    fn nothing_is_left(&self) -> Result<(), String> {
        if !self.stage.on_the_way.is_empty() {
            return Err("more is on its way".to_owned());
        }
        for at in 0..self.shown.len() {
            if let Some((_, text)) = self.next_executed(at) {
                return Err(format!("r{at} has executed {text}"));
            }
        }
        Ok(())
    }

    /// What is on its way, as lines of a script.
    fn picture(&self) -> String {
        let lines = self.stage.on_the_way.iter().map(|envelope| {
            format!("    r{} -> r{} {}\n", envelope.from, envelope.to, envelope.message)
        });
        let executed = (0..self.shown.len()).filter_map(|at| {
            self.next_executed(at).map(|(_, text)| format!("    r{at} executes {text}\n"))
        });
        format!("there is:\n{}", lines.chain(executed).collect::<String>())
    }
}
