//! The table of commands.

use super::{
    Build, Group, Keys, Local, Run, Spec, client, config, connection, describe, expiry, info, keys,
    string, transaction,
};

const NO_KEYS: Keys = Keys { first: 0, last: 0, step: 0 };
const ONE_KEY: Keys = Keys { first: 1, last: 1, step: 1 };
const ALL_KEYS: Keys = Keys { first: 1, last: -1, step: 1 };
const TWO_KEYS: Keys = Keys { first: 1, last: 2, step: 1 };
const EVERY_OTHER: Keys = Keys { first: 1, last: -1, step: 2 };

impl Spec {
    const fn new(name: &'static str, arity: i32, run: Run) -> Self {
        Self {
            name,
            arity,
            keys: NO_KEYS,
            fast: false,
            group: Group::Server,
            since: "1.0.0",
            summary: "",
            differs: "",
            run,
            subcommands: &[],
        }
    }

    const fn write(name: &'static str, arity: i32, build: Build) -> Self {
        Self::new(name, arity, Run::Write(build)).in_group(Group::String).with_keys(ONE_KEY)
    }

    const fn read(name: &'static str, arity: i32, build: Build) -> Self {
        Self::new(name, arity, Run::Read(build)).in_group(Group::String).with_keys(ONE_KEY)
    }

    /// A command on one key, whatever it holds.
    const fn on_key(name: &'static str, arity: i32, run: Run) -> Self {
        Self::new(name, arity, run).in_group(Group::Generic).with_keys(ONE_KEY).fast()
    }

    const fn local(name: &'static str, arity: i32, local: Local) -> Self {
        Self::new(name, arity, Run::Local(local))
    }

    const fn in_group(mut self, group: Group) -> Self {
        self.group = group;
        self
    }

    const fn with_keys(mut self, keys: Keys) -> Self {
        self.keys = keys;
        self
    }

    const fn fast(mut self) -> Self {
        self.fast = true;
        self
    }

    const fn slow(mut self) -> Self {
        self.fast = false;
        self
    }

    const fn about(mut self, since: &'static str, summary: &'static str) -> Self {
        self.since = since;
        self.summary = summary;
        self
    }

    const fn differs(mut self, differs: &'static str) -> Self {
        self.differs = differs;
        self
    }

    const fn with(mut self, subcommands: &'static [Self]) -> Self {
        self.subcommands = subcommands;
        self
    }
}

/// Every command, sorted by name.
pub static COMMANDS: &[Spec] = &[
    Spec::write("append", 3, string::append)
        .fast()
        .about("2.0.0", "Appends to the value of a key, which is made if it is absent."),
    Spec::local("auth", -2, connection::auth)
        .in_group(Group::Connection)
        .fast()
        .about("1.0.0", "Logs the connection in.")
        .differs("There is no authentication yet: everybody is the default user, without a password."),
    Spec::new("client", -2, Run::Parent)
        .in_group(Group::Connection)
        .about("2.4.0", "Commands about the connection.")
        .with(CLIENT),
    Spec::local("command", -1, describe::all)
        .about("2.8.13", "Describes every command.")
        .differs("Says what this server has; optional tips are left out.")
        .with(COMMAND),
    Spec::new("config", -2, Run::Parent)
        .about("2.0.0", "Commands about the configuration.")
        .with(CONFIG),
    Spec::on_key("copy", -3, Run::Write(keys::copy))
        .slow()
        .with_keys(TWO_KEYS)
        .about("6.2.0", "Gives what a key holds to another key as well.")
        .differs("There is one database, number 0."),
    Spec::read("dbsize", 1, keys::dbsize)
        .in_group(Group::Server)
        .with_keys(NO_KEYS)
        .fast()
        .about("1.0.0", "How many keys there are."),
    Spec::write("decr", 2, string::decr)
        .fast()
        .about("1.0.0", "Takes one from the number that a key holds."),
    Spec::write("decrby", 3, string::decrby)
        .fast()
        .about("1.0.0", "Takes a number from the number that a key holds."),
    Spec::write("del", -2, keys::del)
        .in_group(Group::Generic)
        .with_keys(ALL_KEYS)
        .about("1.0.0", "Removes keys."),
    Spec::local("discard", 1, transaction::discard)
        .in_group(Group::Transactions)
        .fast()
        .about("2.0.0", "Ends a transaction, of which nothing is carried out."),
    Spec::local("echo", 2, connection::echo)
        .in_group(Group::Connection)
        .fast()
        .about("1.0.0", "Answers what it was given."),
    Spec::local("exec", 1, transaction::exec)
        .in_group(Group::Transactions)
        .about("1.2.0", "Ends a transaction, all of which is carried out.")
        .differs("Always refused: there are no transactions yet."),
    Spec::read("exists", -2, keys::exists)
        .in_group(Group::Generic)
        .with_keys(ALL_KEYS)
        .fast()
        .about("1.0.0", "How many of the keys are there."),
    Spec::on_key("expire", -3, Run::Write(expiry::expire))
        .about("1.0.0", "Lets a key expire after so many seconds."),
    Spec::on_key("expireat", -3, Run::Write(expiry::expireat))
        .about("1.2.0", "Lets a key expire at a time in seconds since 1970."),
    Spec::on_key("expiretime", 2, Run::Read(expiry::expiretime))
        .about("7.0.0", "When a key expires, in seconds since 1970."),
    Spec::write("flushall", -1, keys::flush)
        .in_group(Group::Server)
        .with_keys(NO_KEYS)
        .about("1.0.0", "Removes every key.")
        .differs("`ASYNC` is taken and means the same as `SYNC`."),
    Spec::write("flushdb", -1, keys::flush)
        .in_group(Group::Server)
        .with_keys(NO_KEYS)
        .about("1.0.0", "Removes every key of the database.")
        .differs("The same as `FLUSHALL`: there is one database."),
    Spec::read("get", 2, string::get).fast().about("1.0.0", "The value of a key."),
    Spec::write("getdel", 2, string::getdel)
        .fast()
        .about("6.2.0", "The value of a key, which is then removed."),
    Spec::write("getex", -2, expiry::getex)
        .fast()
        .about("6.2.0", "The value of a key, whose expiry is set or taken away.")
        .differs("A wrong amount is refused for an absent key, too."),
    Spec::read("getrange", 4, string::getrange)
        .about("2.4.0", "A part of the value of a key."),
    Spec::write("getset", 3, string::getset)
        .fast()
        .about("1.0.0", "Gives a key a value and answers with the one before."),
    Spec::local("hello", -1, connection::hello)
        .in_group(Group::Connection)
        .fast()
        .about("6.0.0", "Chooses the version of the protocol, 2 or 3.")
        .differs("`AUTH` within it as for `AUTH`."),
    Spec::write("incr", 2, string::incr)
        .fast()
        .about("1.0.0", "Adds one to the number that a key holds."),
    Spec::write("incrby", 3, string::incrby)
        .fast()
        .about("1.0.0", "Adds a number to the number that a key holds."),
    Spec::write("incrbyfloat", 3, string::incrbyfloat)
        .fast()
        .about("2.6.0", "Adds a number with a fraction to the one that a key holds."),
    Spec::local("info", -1, info::info).about("1.0.0", "Describes the replica.").differs(
        "Has the sections named below, and one of its own: `mainstay`.",
    ),
    Spec::read("keys", 2, keys::keys)
        .in_group(Group::Generic)
        .with_keys(NO_KEYS)
        .about("1.0.0", "All keys that match a pattern.")
        .differs("A reply above 64 MiB or 1,048,576 keys is refused with an error, and a pattern above 1024 bytes."),
    Spec::read("mget", -2, string::mget)
        .with_keys(ALL_KEYS)
        .fast()
        .about("1.0.0", "The values of several keys.")
        .differs("A reply above 64 MiB is refused with an error."),
    Spec::write("mset", -3, string::mset)
        .with_keys(EVERY_OTHER)
        .about("1.0.1", "Gives several keys values, all at once."),
    Spec::write("msetnx", -3, string::msetnx)
        .with_keys(EVERY_OTHER)
        .about("1.0.1", "Gives several keys values, all at once, if none of them is there."),
    Spec::local("multi", 1, transaction::multi)
        .in_group(Group::Transactions)
        .fast()
        .about("1.2.0", "Begins a transaction.")
        .differs("Always refused, and so is everything up to `EXEC` or `DISCARD`: see [transactions](#transactions)."),
    Spec::on_key("persist", 2, Run::Write(expiry::persist))
        .about("2.2.0", "Takes the expiry of a key away."),
    Spec::on_key("pexpire", -3, Run::Write(expiry::pexpire))
        .about("2.6.0", "Lets a key expire after so many milliseconds."),
    Spec::on_key("pexpireat", -3, Run::Write(expiry::pexpireat))
        .about("2.6.0", "Lets a key expire at a time in milliseconds since 1970."),
    Spec::on_key("pexpiretime", 2, Run::Read(expiry::pexpiretime))
        .about("7.0.0", "When a key expires, in milliseconds since 1970."),
    Spec::local("ping", -1, connection::ping)
        .in_group(Group::Connection)
        .fast()
        .about("1.0.0", "Answers `PONG`, or what it was given."),
    Spec::write("psetex", 4, expiry::psetex)
        .about("2.6.0", "Gives a key a value for so many milliseconds."),
    Spec::on_key("pttl", 2, Run::Read(expiry::pttl))
        .about("2.6.0", "How many milliseconds a key has left."),
    Spec::local("quit", -1, connection::quit)
        .in_group(Group::Connection)
        .fast()
        .about("1.0.0", "Ends the connection."),
    Spec::read("randomkey", 1, keys::randomkey)
        .in_group(Group::Generic)
        .with_keys(NO_KEYS)
        .about("1.0.0", "Any key."),
    Spec::local("readonly", 1, connection::readonly)
        .in_group(Group::Connection)
        .fast()
        .about("3.0.0", "Answers the reads of this connection at once, from this replica's state.")
        .differs("Writes go on being taken. See [stale reads](#stale-reads)."),
    Spec::local("readwrite", 1, connection::readwrite)
        .in_group(Group::Connection)
        .fast()
        .about("3.0.0", "Makes the reads of this connection linearizable again."),
    Spec::on_key("rename", 3, Run::Write(keys::rename))
        .slow()
        .with_keys(TWO_KEYS)
        .about("1.0.0", "Gives what a key holds another key."),
    Spec::on_key("renamenx", 3, Run::Write(keys::renamenx))
        .with_keys(TWO_KEYS)
        .about("1.0.0", "Gives what a key holds another key, unless that is there already."),
    Spec::local("reset", 1, connection::reset)
        .in_group(Group::Connection)
        .fast()
        .about("6.2.0", "Puts the connection back into its first state."),
    Spec::read("scan", -2, keys::scan)
        .in_group(Group::Generic)
        .with_keys(NO_KEYS)
        .about("2.8.0", "A part of an iteration over all keys.")
        .differs("See [iteration](#iteration)."),
    Spec::local("select", 2, connection::select)
        .in_group(Group::Connection)
        .fast()
        .about("1.0.0", "Chooses the database.")
        .differs("There is one, number 0."),
    Spec::write("set", -3, string::set).about("1.0.0", "Gives a key a value."),
    Spec::write("setex", 4, expiry::setex)
        .about("2.0.0", "Gives a key a value for so many seconds."),
    Spec::write("setnx", 3, string::setnx)
        .fast()
        .about("1.0.0", "Gives a key a value, unless it is there already."),
    Spec::write("setrange", 4, string::setrange)
        .about("2.2.0", "Writes over a part of the value of a key."),
    Spec::read("strlen", 2, string::strlen)
        .fast()
        .about("2.2.0", "The length of the value of a key."),
    Spec::read("substr", 4, string::getrange)
        .about("1.0.0", "A part of the value of a key: the old name of `GETRANGE`."),
    Spec::read("touch", -2, keys::exists)
        .in_group(Group::Generic)
        .with_keys(ALL_KEYS)
        .fast()
        .about("3.2.1", "How many of the keys are there."),
    Spec::on_key("ttl", 2, Run::Read(expiry::ttl))
        .about("1.0.0", "How many seconds a key has left."),
    Spec::on_key("type", 2, Run::Read(keys::kind))
        .about("1.0.0", "Of which type the value of a key is.")
        .differs("Strings are the only type yet."),
    Spec::write("unlink", -2, keys::del)
        .in_group(Group::Generic)
        .with_keys(ALL_KEYS)
        .fast()
        .about("4.0.0", "Removes keys.")
        .differs("The same as `DEL`."),
    Spec::local("unwatch", 1, transaction::unwatch)
        .in_group(Group::Transactions)
        .fast()
        .about("2.2.0", "Watches no key any more."),
    Spec::local("watch", -2, transaction::watch)
        .in_group(Group::Transactions)
        .with_keys(ALL_KEYS)
        .fast()
        .about("2.2.0", "Watches keys for the next transaction.")
        .differs("Always refused: there are no transactions yet."),
];

static CLIENT: &[Spec] = &[
    Spec::local("getname", 2, client::getname)
        .in_group(Group::Connection)
        .about("2.6.9", "The name of the connection."),
    Spec::local("help", 2, client::subcommands)
        .in_group(Group::Connection)
        .about("5.0.0", "Lists these subcommands."),
    Spec::local("id", 2, client::id)
        .in_group(Group::Connection)
        .about("5.0.0", "The number of the connection.")
        .differs("Unique within the life of one replica's process."),
    Spec::local("info", 2, client::info)
        .in_group(Group::Connection)
        .about("6.2.0", "Describes the connection.")
        .differs("As for `CLIENT LIST`."),
    Spec::local("list", -2, client::list)
        .in_group(Group::Connection)
        .about("2.4.0", "Describes connections.")
        .differs("Those of this replica. What is not counted for each connection, as sizes of buffers, is 0."),
    Spec::local("no-evict", 3, client::switch)
        .in_group(Group::Connection)
        .about("7.0.0", "Keeps the connection when memory is short.")
        .differs("Taken, without effect."),
    Spec::local("no-touch", 3, client::switch)
        .in_group(Group::Connection)
        .about("7.2.0", "Keeps reads from counting as uses.")
        .differs("Taken, without effect."),
    Spec::local("reply", 3, client::reply)
        .in_group(Group::Connection)
        .about("3.2.0", "Says which of the commands that follow are answered."),
    Spec::local("setinfo", 4, client::setinfo)
        .in_group(Group::Connection)
        .about("7.2.0", "Says which client library this is."),
    Spec::local("setname", 3, client::setname)
        .in_group(Group::Connection)
        .about("2.6.9", "Names the connection."),
];

static COMMAND: &[Spec] = &[
    Spec::local("count", 2, describe::count).about("2.8.13", "How many commands there are."),
    Spec::local("docs", -2, describe::docs)
        .about("7.0.0", "What commands do.")
        .differs("Without the descriptions of arguments."),
    Spec::local("getkeys", -3, describe::getkeys)
        .about("2.8.13", "The keys in a command with its arguments."),
    Spec::local("help", 2, describe::command_help).about("5.0.0", "Lists these subcommands."),
    Spec::local("info", -2, describe::info).about("2.8.13", "Describes the named commands."),
    Spec::local("list", -2, describe::list)
        .about("7.0.0", "The names of all commands.")
        .differs("`FILTERBY` takes `PATTERN` only."),
];

static CONFIG: &[Spec] = &[
    Spec::local("get", -3, config::config_get)
        .about("2.0.0", "Settings that match patterns.")
        .differs("Knows the settings named below."),
    Spec::local("help", 2, config::config_help).about("5.0.0", "Lists these subcommands."),
    Spec::local("resetstat", 2, config::config_resetstat).about("2.0.0", "Sets counters back."),
    Spec::local("set", -4, config::config_set)
        .about("2.0.0", "Changes settings.")
        .differs("Always refused: settings are given when a replica starts."),
];

/// The parent of the subcommands listed under `name`.
pub(super) fn parent(name: &str) -> &'static Spec {
    COMMANDS.iter().find(|spec| spec.name == name).expect("asked for by the parent's own file")
}
