//! A copy of a replica's folder that is started beside the original.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::world::by_hand::ByHand;
use crate::world::raw::Raw;
use crate::world::{pause, wait_until};

const COPIED: usize = 1;
/// How long the two run beside one another.
const BESIDE: Duration = Duration::from_secs(3);
/// The most lines that each of the processes may say about it meanwhile.
const LINES_MAX: usize = 12;

/// Ends with the test.
struct Copy(Child);

impl Drop for Copy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("a file");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}

#[test]
fn the_copy_of_a_replica_is_turned_away_and_told() {
    let program = Path::new(env!("CARGO_BIN_EXE_mainstay"));
    let mut cluster = ByHand::init(program);
    (0..3).for_each(|index| cluster.start(index));
    cluster.wait_until_whole();

    let folder = cluster.folder(COPIED);
    let copy = folder.with_file_name("copy");
    copy_folder(&folder, &copy);
    let mut file = fs::read_to_string(folder.with_extension("toml")).expect("a configuration");
    let (from, to) = file.split_at(file.find("[listen]").expect("where it listens"));
    let from = from.replace("\"replica-1\"", "\"copy\"");
    let listens = [cluster.clients_at(COPIED), cluster.peers_at(COPIED)];
    let mut to = to.to_owned();
    for address in listens {
        let elsewhere = format!("{}:{}", address.ip(), address.port() + 8);
        to = to.replace(&address.to_string(), &elsewhere);
    }
    file = from + &to;
    fs::write(copy.with_extension("toml"), file).expect("a configuration");
    let ballot = cluster.status().ballot();
    let log = copy.with_extension("log");
    let mut command = Command::new(program);
    command.args(["replica", "--config"]).arg(copy.with_extension("toml"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).expect("a file"));
    let _copy = Copy(command.spawn().expect("the program starts"));

    let (one, other) = (listens[1], format!("{}:{}", listens[1].ip(), listens[1].port() + 8));
    let sentence = format!("two processes claim to be replica {COPIED}: {one} and {other}");
    let warned = |cluster: &ByHand| cluster.status().warnings().contains(&sentence);
    wait_until("status says so", || warned(&cluster));
    let began = Instant::now();
    let mut client = Raw::connect(cluster.clients_at(COPIED));
    while began.elapsed() < BESIDE {
        client.command(&["INCR", "n"]);
        let reply = client.reply();
        assert!(reply.starts_with(':'), "the original answers {reply}");
        pause(Duration::from_millis(20));
    }
    assert!(warned(&cluster), "it still tries");
    assert_eq!(cluster.status().ballot(), ballot, "nobody was deposed");
    let logs = [0, 2].map(|index| cluster.folder(index).with_extension("log"));
    for log in logs.iter().chain([&log]) {
        let said = fs::read_to_string(log).expect("a log");
        assert!(said.contains(&sentence), "{}: {said}", log.display());
        let about = |line: &&str| line.contains("replica 1") || line.contains("refuses");
        let lines = said.lines().filter(about).count();
        assert!(lines <= LINES_MAX, "{}: {lines} lines in {BESIDE:?}", log.display());
    }
}
