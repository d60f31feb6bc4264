//! The real daemon and the real client program, over a socket in a folder of their own.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use xenstore::client::{Client, Store, WatchEvent};
use xenstore::permission::{Access, Permission};
use xenstore::wire::Failure;

/// A daemon that ends with the test.
struct Daemon {
    process: Child,
    directory: TempDir,
}

impl Daemon {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a folder can be made");
        let process = spawn(&directory);
        let daemon = Self { process, directory };
        daemon.wait();
        daemon
    }

    /// Kills the daemon and starts another.
    fn kill_and_start(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it was killed");
        self.process = spawn(&self.directory);
        self.wait();
    }

    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while UnixStream::connect(self.socket()).is_err() {
            assert!(Instant::now() < deadline, "the daemon does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    fn client(&self) -> Client {
        Client::connect_to(&self.socket()).expect("the daemon listens")
    }

    fn raw(&self) -> UnixStream {
        UnixStream::connect(self.socket()).expect("the daemon listens")
    }

    fn run(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_xenstore"))
            .args(words)
            .env("XENSTORED_PATH", self.socket())
            .output()
            .expect("the client can be started")
    }

    fn printed(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).expect("the client prints text")
    }
}

fn spawn(directory: &TempDir) -> Child {
    Command::new(env!("CARGO_BIN_EXE_xenstored"))
        .args(["--no-fork", "--no-domain-init", "--socket"])
        .arg(directory.path().join("socket"))
        .spawn()
        .expect("the daemon can be started")
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself, as one test wants it to.
        let _killed = self.process.kill();
        let _ended = self.process.wait();
    }
}

const SOON: Option<Duration> = Some(Duration::from_secs(20));

#[test]
fn values_permissions_and_children_go_there_and_back() {
    let daemon = Daemon::start();
    let client = daemon.client();
    client.write_bytes("/a/b", b"\0\xff\n").unwrap();
    assert_eq!(client.read("/a/b").unwrap(), b"\0\xff\n");
    let list = [Permission::new(0, Access::NONE), Permission::new(7, Access::BOTH)];
    client.set_perms("/a/b", &list).unwrap();
    assert_eq!(client.get_perms("/a/b").unwrap(), list);
    assert_eq!(client.directory("/a").unwrap(), ["b"]);
    assert_eq!(client.directory("/a/b").unwrap(), Vec::<String>::new());
    assert_eq!(client.read_optional("/no").unwrap(), None);
    assert_eq!(client.read("/no").unwrap_err().failure(), Some(Failure::ENOENT));
    assert_eq!(client.get_domain_path(7).unwrap(), "/local/domain/7");
    assert!(!client.is_introduced(7).unwrap());
    assert_eq!(client.introduce(7, 1, 1).unwrap_err().failure(), Some(Failure::ENOSYS));
    let many: Vec<String> = (0..2000).map(|index| format!("n{index}")).collect();
    for name in &many {
        client.mkdir(&format!("/many/{name}")).unwrap();
    }
    assert_eq!(client.directory("/many").unwrap(), many);
    client.rm("/many").unwrap();
    assert_eq!(client.control(&["check"]).unwrap(), "OK");
}

#[test]
fn a_transaction_is_tried_again_until_nothing_meets_it() {
    let daemon = Daemon::start();
    let (client, other) = (daemon.client(), daemon.client());
    client.write("/count", "0").unwrap();
    let mut runs = 0;
    let result: Result<u32, xenstore::client::Error> = client.transaction(|transaction| {
        runs += 1;
        let count: u32 = transaction.read_string("/count")?.parse().unwrap();
        if runs < 3 {
            other.write("/count", &(count + 10).to_string())?;
        }
        transaction.write("/count", &(count + 1).to_string())?;
        Ok(count + 1)
    });
    assert_eq!((result.unwrap(), runs), (21, 3));
    assert_eq!(other.read_string("/count").unwrap(), "21");
    let dropped = client.start_transaction().unwrap();
    dropped.write("/count", "99").unwrap();
    drop(dropped);
    assert_eq!(other.read_string("/count").unwrap(), "21");
}

#[test]
fn watch_events_come_among_replies_and_by_themselves() {
    let daemon = Daemon::start();
    let (client, other) = (daemon.client(), daemon.client());
    client.watch("/a", "token").unwrap();
    let first = WatchEvent { path: "/a".into(), token: "token".into() };
    assert_eq!(client.next_event(SOON).unwrap(), Some(first));
    assert_eq!(client.next_event(Some(Duration::ZERO)).unwrap(), None);
    other.write("/a/b", "1").unwrap();
    assert_eq!(client.read_string("/a/b").unwrap(), "1");
    assert_eq!(client.next_event(SOON).unwrap().unwrap().path, "/a/b");
    client.unwatch("/a", "token").unwrap();
    other.write("/a/b", "2").unwrap();
    assert_eq!(client.next_event(Some(Duration::from_millis(50))).unwrap(), None);
}

#[test]
fn a_program_that_breaks_the_protocol_is_dropped_and_others_are_served() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let mut rude = daemon.raw();
    rude.write_all(&[0xff; 64]).unwrap();
    assert_eq!(rude.read(&mut [0; 64]).unwrap_or(0), 0);
    let mut half = daemon.raw();
    half.write_all(&[2, 0, 0, 0, 1]).unwrap();
    client.write("/x", "1").unwrap();
    drop(half);
    let mut slow = daemon.raw();
    // WATCH of the root; then it never reads.
    let mut request = vec![4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0];
    request.extend_from_slice(b"/\0t\0");
    slow.write_all(&request).unwrap();
    for index in 0..20_000 {
        client.write(&format!("/x/n{}", index % 50), "1").unwrap();
    }
    assert_eq!(client.read_string("/x").unwrap(), "1");
    drop(slow);
    assert_eq!(client.control(&["check"]).unwrap(), "OK");
}

#[test]
fn the_daemon_ends_when_told_and_takes_its_socket_along() {
    let mut daemon = Daemon::start();
    let number = rustix::process::Pid::from_child(&daemon.process);
    rustix::process::kill_process(number, rustix::process::Signal::TERM).unwrap();
    assert!(daemon.process.wait().unwrap().success());
    assert!(!daemon.socket().exists());
}

#[test]
fn the_client_program_prints_as_xenstore_utils_do() {
    let daemon = Daemon::start();
    daemon.printed(&["write", "/vm/name", "demo\\x00", "/vm/id", "1"]);
    assert_eq!(daemon.printed(&["read", "/vm/name", "/vm/id"]), "demo\\000\n1\n");
    assert_eq!(daemon.printed(&["read", "-p", "/vm/id"]), "/vm/id: 1\n");
    assert_eq!(daemon.printed(&["read", "-R", "/vm/id"]), "1");
    assert_eq!(daemon.printed(&["list", "-p", "/vm"]), "/vm/name\n/vm/id\n");
    let listed = "/vm/name = \"demo\\000\"\n/vm/id = \"1\"\n";
    assert_eq!(daemon.printed(&["ls", "-f", "/vm"]), listed);
    daemon.printed(&["chmod", "-r", "/vm", "n0", "r7"]);
    let line = daemon.printed(&["ls", "-p", "/vm"]).lines().nth(1).unwrap().to_owned();
    assert!(line.starts_with("id = \"1\"") && line.ends_with("  (n0,r7)"), "{line}");
    assert!(daemon.run(&["exists", "/vm"]).status.success());
    assert_eq!(daemon.run(&["exists", "/nowhere"]).status.code(), Some(1));
    assert_eq!(daemon.printed(&["watch", "-n", "1", "/vm"]), "/vm\n");
    daemon.printed(&["write", "/deep/er/node", "1"]);
    daemon.printed(&["rm", "-t", "/deep/er/node"]);
    assert!(!daemon.printed(&["list", "/"]).contains("deep"));
    let failed = daemon.run(&["read", "/vm/id", "/nowhere"]);
    assert_eq!((failed.status.code(), failed.stdout.as_slice()), (Some(1), b"1\n".as_slice()));
    let failed = daemon.run(&["list", "/vm", "/nowhere"]);
    assert_eq!(failed.status.code(), Some(1));
    assert_eq!(failed.stdout, b"name\nid\n", "as Xen's client, which prints as far as it came");
    let failed = daemon.run(&["read", "/nowhere"]);
    assert_eq!(failed.status.code(), Some(1));
    let complaint = String::from_utf8(failed.stderr).unwrap();
    assert!(complaint.contains("couldn't read path /nowhere"), "{complaint}");
}

#[test]
fn a_daemon_started_after_a_kill_has_what_was_answered_before() {
    let mut daemon = Daemon::start();
    let client = daemon.client();
    for round in 0..5 {
        for index in 0..200 {
            client.write(&format!("/r{round}/n{index}"), &format!("{round}-{index}")).unwrap();
        }
        client.set_perms(&format!("/r{round}/n7"), &[Permission::new(9, Access::READ)]).unwrap();
        client.rm(&format!("/r{round}/n8")).unwrap();
        client.control(&["quota", "set", "nodes", &(2000 + round).to_string()]).unwrap();
        daemon.kill_and_start();
        for earlier in 0..=round {
            assert_eq!(client.directory(&format!("/r{earlier}")).unwrap().len(), 199);
            let value = client.read_string(&format!("/r{earlier}/n199")).unwrap();
            assert_eq!(value, format!("{earlier}-199"));
            let perms = client.get_perms(&format!("/r{earlier}/n7")).unwrap();
            assert_eq!(perms, [Permission::new(9, Access::READ)]);
        }
        let quota = client.control(&["quota"]).unwrap();
        assert!(quota.contains(&format!("{}", 2000 + round)), "{quota}");
        assert_eq!(client.control(&["check"]).unwrap(), "OK");
    }
}

#[test]
fn a_daemon_killed_while_it_writes_its_file_anew_loses_nothing() {
    let mut daemon = Daemon::start();
    let client = daemon.client();
    let state = daemon.directory.path().join("state");
    let mut half_written = 0;
    // The file of 300 KB is written anew when it has 1 MiB, and that takes some dozens of steps.
    for (round, steps) in [400, 240, 250, 260, 280, 300, 600].into_iter().enumerate() {
        let value = |step: usize| format!("{round}-{step}-{}", "x".repeat(3000));
        for step in 0..steps {
            client.write(&format!("/n{}", step % 100), &value(step)).unwrap();
        }
        half_written += usize::from(state.with_extension("new").exists());
        daemon.kill_and_start();
        for step in steps - 100..steps {
            let found = client.read_string(&format!("/n{}", step % 100)).unwrap();
            assert_eq!(found, value(step));
        }
        assert_eq!(client.control(&["check"]).unwrap(), "OK");
    }
    assert!(half_written > 0, "each kill was at another time");
    assert!(state.metadata().unwrap().len() < 2 << 20);
}

#[test]
fn clients_go_on_with_their_watches_and_start_transactions_again() {
    let mut daemon = Daemon::start();
    let (client, other) = (daemon.client(), daemon.client());
    client.write("/count", "1").unwrap();
    client.watch("/a", "token").unwrap();
    client.next_event(SOON).unwrap();
    let mut runs = 0;
    let result: Result<(), xenstore::client::Error> = client.transaction(|transaction| {
        runs += 1;
        transaction.write("/count", "2")?;
        if runs == 1 {
            daemon.kill_and_start();
        }
        transaction.read("/count").map(drop)
    });
    result.unwrap();
    assert_eq!((runs, client.generation()), (2, 1));
    assert_eq!(client.next_event(SOON).unwrap().unwrap().path, "/a");
    other.write("/a/b", "1").unwrap();
    assert_eq!(client.next_event(SOON).unwrap().unwrap().path, "/a/b");
    assert_eq!(other.read_string("/count").unwrap(), "2");
}

#[test]
fn a_live_update_is_noticed_by_nobody_who_is_connected() {
    let daemon = Daemon::start();
    let (client, other) = (daemon.client(), daemon.client());
    client.write("/x", "1").unwrap();
    client.watch("/x", "token").unwrap();
    client.next_event(SOON).unwrap();
    // Half a request: its rest arrives at the daemon that takes over.
    let mut half = daemon.raw();
    half.write_all(&[2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 3, 0]).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let program = env!("CARGO_BIN_EXE_xenstored");
    for _ in 0..3 {
        assert_eq!(client.control(&["live-update", "-f", program]).unwrap(), "OK");
        assert_eq!(client.control(&["live-update", "-s", "-t", "60"]).unwrap(), "OK");
    }
    half.write_all(b"\0\0/x\0").unwrap();
    let mut reply = [0; 17];
    half.read_exact(&mut reply).unwrap();
    assert_eq!(reply[16], b'1');
    other.write("/x", "2").unwrap();
    assert_eq!(client.next_event(SOON).unwrap().unwrap().path, "/x");
    assert_eq!((client.generation(), other.generation()), (0, 0));
    assert_eq!(client.read_string("/x").unwrap(), "2");
    let refused = |program: &str| {
        client.control(&["live-update", "-f", program]).unwrap();
        client.control(&["live-update", "-s"]).unwrap()
    };
    assert!(refused("/nowhere").contains("cannot run /nowhere"));
    assert!(refused("/bin/true").contains("no xenstored that can take over"));
    assert_eq!(client.read_string("/x").unwrap(), "2");
    assert_eq!(client.next_event(Some(Duration::from_millis(50))).unwrap(), None);
}
