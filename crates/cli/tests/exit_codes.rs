//! What the program says and how it ends when something is wrong before a replica runs.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn mainstay(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mainstay"))
        .current_dir(folder)
        .args(arguments)
        .output()
        .expect("the program starts")
}

/// Runs the program and returns its exit code and its one sentence.
fn fails(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let output = mainstay(folder, arguments);
    let told = String::from_utf8(output.stderr).expect("text");
    assert!(!told.contains("panicked"), "{told}");
    let sentence = told.lines().last().unwrap_or_default().to_owned();
    assert!(sentence.starts_with("error: "), "{told}");
    (output.status.code().expect("an exit code"), sentence)
}

fn succeeds(folder: &Path, arguments: &[&str]) -> String {
    let output = mainstay(folder, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_cluster_is_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let told = succeeds(folder.path(), &["init", "--data", "c"]);
    let id = told.split_whitespace().nth(1).unwrap();
    assert_eq!(id.len(), 32, "{told}");
    for index in 0..3 {
        let config = fs::read_to_string(folder.path().join(format!("c/replica-{index}.toml")));
        assert!(config.unwrap().contains(id));
        assert!(folder.path().join(format!("c/replica-{index}/identity")).exists());
    }
    let (code, sentence) = fails(folder.path(), &["init", "--data", "c"]);
    assert_eq!(code, 2);
    assert!(sentence.contains("not empty"), "{sentence}");
}

#[test]
fn an_empty_folder_is_no_replica() {
    let folder = tempfile::tempdir().unwrap();
    succeeds(folder.path(), &["init", "--data", "c", "--replicas", "1"]);
    fs::remove_dir_all(folder.path().join("c/replica-0")).unwrap();
    for make in [false, true] {
        if make {
            fs::create_dir(folder.path().join("c/replica-0")).unwrap();
        }
        let (code, sentence) = fails(folder.path(), &["replica", "--config", "c/replica-0.toml"]);
        assert_eq!(code, 2);
        assert!(sentence.contains("mainstay init") && sentence.contains("--lost"), "{sentence}");
        assert!(!folder.path().join("c/replica-0/identity").exists());
    }
}

#[test]
fn a_foreign_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    succeeds(folder.path(), &["init", "--data", "one", "--replicas", "1"]);
    succeeds(folder.path(), &["init", "--data", "two", "--replicas", "1"]);
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    fs::copy(one.join("replica-0/identity"), two.join("replica-0/identity")).unwrap();
    let (code, sentence) = fails(folder.path(), &["replica", "--config", "two/replica-0.toml"]);
    assert_eq!(code, 3);
    assert!(sentence.contains("belongs to replica 0 of cluster"), "{sentence}");
}

#[test]
fn a_damaged_identity_is_told() {
    let folder = tempfile::tempdir().unwrap();
    succeeds(folder.path(), &["init", "--data", "c", "--replicas", "1"]);
    let identity = folder.path().join("c/replica-0/identity");
    let mut bytes = fs::read(&identity).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&identity, bytes).unwrap();
    let (code, sentence) = fails(folder.path(), &["replica", "--config", "c/replica-0.toml"]);
    assert_eq!(code, 3);
    assert!(sentence.contains("identity") && sentence.contains("damaged"), "{sentence}");
}

#[test]
fn a_bad_configuration_is_told_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    succeeds(folder.path(), &["init", "--data", "c", "--replicas", "1"]);
    let config = folder.path().join("c/replica-0.toml");
    let good = fs::read_to_string(&config).unwrap();
    fs::write(&config, good.replace("index = 0", "index = zero")).unwrap();
    let (code, sentence) = fails(folder.path(), &["replica", "--config", "c/replica-0.toml"]);
    assert_eq!(code, 2);
    assert!(sentence.contains("line 2"), "{sentence}");
    let (code, sentence) = fails(folder.path(), &["replica", "--config", "none.toml"]);
    assert_eq!(code, 2);
    assert!(sentence.contains("none.toml"), "{sentence}");
}

#[test]
fn an_open_address_needs_a_word() {
    let folder = tempfile::tempdir().unwrap();
    succeeds(folder.path(), &["init", "--data", "c", "--peers", "0.0.0.0:7500"]);
    let (code, sentence) = fails(folder.path(), &["replica", "--config", "c/replica-0.toml"]);
    assert_eq!(code, 2);
    assert!(sentence.contains("--insecure-bind"), "{sentence}");
}

#[test]
fn a_taken_port_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut free = (20_000..30_000).filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
    let held = free.next().expect("a free port");
    let port = held.local_addr().unwrap().port();
    let (code, sentence) =
        fails(folder.path(), &["up", "--data", "c", "--port", &port.to_string()]);
    assert_eq!(code, 1, "it may be free later");
    assert!(sentence.contains(&format!("127.0.0.1:{port}")), "{sentence}");
}

/// Before the log is read, which may take long.
#[test]
fn a_taken_port_is_named_before_the_log_is_read() {
    let folder = tempfile::tempdir().unwrap();
    succeeds(folder.path(), &["init", "--data", "c", "--replicas", "1"]);
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap().to_string();
    let config = folder.path().join("c/replica-0.toml");
    let good = fs::read_to_string(&config).unwrap();
    fs::write(&config, good.replace("127.0.0.1:7400", &address)).unwrap();
    // A log that cannot be read is not looked at.
    fs::create_dir(folder.path().join("c/replica-0/log-0000000001")).unwrap();
    let (code, sentence) = fails(folder.path(), &["replica", "--config", "c/replica-0.toml"]);
    assert_eq!(code, 1);
    assert!(sentence.contains(&address) && sentence.contains("taken"), "{sentence}");
}

/// The top folder of an ext4 file system.
#[test]
fn a_folder_that_a_file_system_begins_with_is_empty() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("c/lost+found")).unwrap();
    succeeds(folder.path(), &["init", "--data", "c"]);
}

#[test]
fn what_may_pass_ends_with_1_so_that_a_supervisor_tries_again() {
    let folder = tempfile::tempdir().unwrap();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap();
    succeeds(folder.path(), &["init", "--data", "c", "--replicas", "1"]);
    let file = folder.path().join("c/replica-0.toml");
    let good = fs::read_to_string(&file).unwrap();
    let started = |clients: &str| {
        fs::write(&file, good.replace("127.0.0.1:7400", clients)).unwrap();
        fails(folder.path(), &["replica", "--insecure-bind", "--config", "c/replica-0.toml"])
    };
    let (code, sentence) = started(&taken.to_string());
    assert_eq!(code, 1, "the port is taken now: {sentence}");
    assert!(sentence.contains(&taken.to_string()), "{sentence}");
    let (code, sentence) = started("192.0.2.1:7400");
    assert_eq!(code, 1, "this machine does not have the address now: {sentence}");
    let lock = fs::File::create(folder.path().join("c/replica-0/lock")).unwrap();
    lock.lock().unwrap();
    let (code, sentence) = started("127.0.0.1:0");
    assert_eq!(code, 1, "the folder is in use now: {sentence}");
    assert!(sentence.contains("in use"), "{sentence}");
}

#[test]
fn standard_output_may_be_closed_or_full() {
    let folder = tempfile::tempdir().unwrap();
    let commands: [&[&str]; 4] = [
        &["init", "--data", "c"],
        &["sim", "--seed", "1"],
        &["sim", "--plants", "list"],
        &["--help"],
    ];
    for arguments in commands {
        for full in [false, true] {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let out = if full {
                Stdio::from(fs::File::options().write(true).open("/dev/full").unwrap())
            } else {
                Stdio::from(writer)
            };
            let output = Command::new(env!("CARGO_BIN_EXE_mainstay"))
                .current_dir(tempfile::tempdir_in(folder.path()).unwrap().path())
                .args(arguments)
                .stdout(out)
                .output()
                .unwrap();
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(!told.contains("panicked"), "{arguments:?}: {told}");
            let made_and_unsaid = full && arguments[0] == "init";
            assert_eq!(output.status.code(), Some(i32::from(made_and_unsaid)), "{told}");
            assert_eq!(told.contains("standard output"), made_and_unsaid, "{told}");
        }
    }
}

#[test]
fn a_closed_standard_error_is_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_mainstay"))
        .current_dir(folder.path())
        .arg("status")
        .stderr(fs::File::options().write(true).open("/dev/full").unwrap())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(2));
}

#[test]
fn a_file_that_is_no_utf_8_is_a_matter_of_configuration() {
    let folder = tempfile::tempdir().unwrap();
    succeeds(folder.path(), &["init", "--data", "c", "--replicas", "1"]);
    let file = folder.path().join("c/replica-0.toml");
    let good = fs::read_to_string(&file).unwrap();
    let utf_16: Vec<u8> =
        [0xfeff].into_iter().chain(good.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let latin_1 = [b"cluster = \"x\"\n# f\xfcr\n", good.as_bytes()].concat();
    for (bytes, wanted) in [(utf_16, "line 1: is UTF-16"), (latin_1, "line 2: has the byte 0xfc")] {
        fs::write(&file, bytes).unwrap();
        let (code, sentence) = fails(folder.path(), &["replica", "--config", "c/replica-0.toml"]);
        assert_eq!(code, 2);
        assert!(sentence.contains(wanted) && sentence.contains("UTF-8"), "{sentence}");
    }
    // A mark in front of UTF-8 is no fault: the address alone is.
    let marked = format!("\u{feff}{}", good.replace("127.0.0.1:7400", "192.0.2.1:7400"));
    fs::write(&file, marked).unwrap();
    let (_, sentence) = fails(folder.path(), &["replica", "--config", "c/replica-0.toml"]);
    assert!(sentence.contains("192.0.2.1"), "{sentence}");
}

#[test]
fn a_folder_in_a_files_place_and_a_file_in_a_folders_are_told() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    fs::create_dir(folder.path().join("folder")).unwrap();
    let cases: [&[&str]; 5] = [
        &["replica", "--config", "folder"],
        &["status", "--config", "folder"],
        &["status", "--data", "file"],
        &["up", "--data", "file"],
        &["init", "--data", "file"],
    ];
    for arguments in cases {
        let (code, sentence) = fails(folder.path(), arguments);
        assert_eq!(code, 2, "{arguments:?}: {sentence}");
        assert!(sentence.contains(arguments[2]) && !sentence.contains("disk"), "{sentence}");
    }
}

#[test]
fn each_replica_has_addresses_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let init = |peers: &str, port: &str| {
        fails(folder.path(), &["init", "--data", "c", "--peers", peers, "--port", port])
    };
    let (code, sentence) = init("127.0.0.1:7500,127.0.0.1:7500", "7400");
    assert_eq!(code, 2);
    assert!(sentence.contains("two replicas would listen at 127.0.0.1:7500"), "{sentence}");
    let (code, sentence) = init("127.0.0.1:7500,127.0.0.1:7501", "7500");
    assert_eq!(code, 2);
    assert!(sentence.contains("127.0.0.1:7500"), "{sentence}");
    assert!(!folder.path().join("c").exists());
    // Of one host, each has the next client port.
    let peers = "127.0.0.1:7500,127.0.0.1:7501";
    succeeds(folder.path(), &["init", "--data", "c", "--peers", peers]);
    let file = fs::read_to_string(folder.path().join("c/replica-1.toml")).unwrap();
    assert!(file.contains("clients = \"127.0.0.1:7401\""), "{file}");
}

#[test]
fn status_knows_what_init_made_and_what_a_file_lists() {
    let folder = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // It takes connections and never says a word.
    let listens = TcpListener::bind("127.0.0.1:0").unwrap();
    let (free, silent) = (free.to_string(), listens.local_addr().unwrap().to_string());
    let peers = format!("{free},{silent}");
    succeeds(folder.path(), &["init", "--data", "c", "--peers", &peers]);
    let asked: [&[&str]; 2] = [&["--data", "c"], &["--config", "c/replica-1.toml"]];
    for at in asked {
        let output = mainstay(folder.path(), &[&["status", "--json"], at].concat());
        assert_eq!(output.status.code(), Some(1), "nobody answers");
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let replicas = status["groups"][0]["replicas"].as_array().unwrap();
        assert_eq!(replicas.len(), 2);
        assert_eq!(replicas[0]["peer"].as_str(), Some(&*free));
        assert_eq!(replicas[0]["state"], "stopped");
        assert_eq!(replicas[1]["state"], "unreachable", "it is there and says nothing");
        // What is not known is not made up.
        for field in ["role", "pid", "client", "accepted", "decided", "applied", "checkpoint"] {
            assert!(replicas[0].as_object().unwrap().contains_key(field), "{field}");
            assert!(replicas[0][field].is_null(), "{field}");
        }
    }
    let (code, sentence) = fails(folder.path(), &["status", "--target", &peers]);
    assert_eq!(code, 1);
    assert!(sentence.contains(&free) && sentence.contains(&silent), "{sentence}");
}

#[test]
fn a_program_says_its_own_name() {
    let folder = tempfile::tempdir().unwrap();
    let told = succeeds(folder.path(), &["--version"]);
    assert!(told.starts_with("mainstay 0."), "{told}");
    let own = folder.path().join("jobs");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_mainstay"), &own).unwrap();
    let told = Command::new(&own).arg("--version").output().unwrap().stdout;
    let told = String::from_utf8(told).unwrap();
    assert!(told.starts_with("jobs (mainstay 0."), "{told}");
    let help = Command::new(&own).arg("--help").output().unwrap().stdout;
    assert!(String::from_utf8(help).unwrap().contains("Usage: jobs <COMMAND>"));
}

#[test]
fn status_without_a_cluster_says_what_to_name() {
    let folder = tempfile::tempdir().unwrap();
    let (code, sentence) = fails(folder.path(), &["status"]);
    assert_eq!(code, 2);
    assert!(sentence.contains("--data") && sentence.contains("--target"), "{sentence}");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (code, sentence) = fails(folder.path(), &["status", "--target", &free]);
    assert_eq!(code, 1);
    assert!(sentence.contains(&free), "{sentence}");
}

#[test]
fn usage_errors_end_with_2() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["nonsense"][..], &["up", "--replicas", "0"], &["init"], &[]] {
        assert_eq!(mainstay(folder.path(), arguments).status.code(), Some(2), "{arguments:?}");
    }
    assert_eq!(mainstay(folder.path(), &["up", "--help"]).status.code(), Some(0));
}

#[test]
fn a_simulation_that_fails_tells_how_to_see_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let sim = |arguments: &[&str]| {
        let output = mainstay(folder.path(), &[&["sim"], arguments].concat());
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, told) = sim(&["--seed", "1", "--runs", "3"]);
    assert_eq!(code, Some(0), "{told}");
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 2, "what happened, the totals, and no bar without a terminal: {told}");
    assert!(lines[0].starts_with("checkpoints "), "{told}");
    assert!(
        lines[1].starts_with("3 seeds, ") && lines[1].contains(" 0 failures, trace "),
        "{told}"
    );

    // Which seed finds the bug changes with the machine.
    let fails_with = |seed: usize| {
        let (code, told) =
            sim(&["--plants", "duplicate-applied", "--seed", &seed.to_string(), "--trace"]);
        (code != Some(0)).then_some((code, told))
    };
    let (code, told) = (1..=50).find_map(fails_with).expect("a seed that finds the bug");
    assert_eq!(code, Some(11), "{told}");
    let found = |line: &str| line.strip_prefix("replay: ").map(str::to_owned);
    let replay = told.lines().find_map(found).expect("a command");
    let again: Vec<&str> = replay.split(' ').skip_while(|word| *word != "sim").skip(1).collect();
    assert_eq!(sim(&again), (code, told.clone()), "{replay}");
    assert!(told.lines().count() > 20, "{told}");
    assert!(told.lines().last().unwrap().contains("1 failures"), "{told}");

    let (code, told) = sim(&["--scenario", "list"]);
    let scenario = told.split_whitespace().next().expect("a scenario");
    assert_eq!(code, Some(0));
    assert_eq!(sim(&["--scenario", scenario]).0, Some(0));
}
