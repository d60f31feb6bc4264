//! A xenstore server in a thread, with a backend that takes every device it is offered.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use xenstore::client::{Client, Store};
use xenstore::quota::Quotas;
use xenstore::server::{ConnectionId, Effect, Server as Machine};
use xenstore::wire::Decoder;

/// The server; its threads end with the test's process.
pub(crate) struct Server;

struct Shared {
    machine: Machine,
    sockets: BTreeMap<ConnectionId, UnixStream>,
}

impl Server {
    /// Starts a server at `socket`.
    pub(crate) fn start(socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let machine = Machine::new(Quotas::default());
        let shared = Arc::new(Mutex::new(Shared { machine, sockets: BTreeMap::new() }));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (shared, stream) = (Arc::clone(&shared), stream.unwrap());
                thread::spawn(move || serve(&shared, stream));
            }
        });
        let client = Client::connect_to(socket).unwrap();
        thread::spawn(move || backend(&client));
        Self
    }
}

fn serve(shared: &Mutex<Shared>, mut stream: UnixStream) {
    let id = {
        let mut shared = shared.lock().unwrap();
        let id = shared.machine.connect_tool();
        shared.sockets.insert(id, stream.try_clone().unwrap());
        id
    };
    let (mut decoder, mut buffer) = (Decoder::default(), [0; 4096]);
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        decoder.extend(&buffer[..count]);
        while let Some(message) = decoder.next_message().unwrap() {
            let mut shared = shared.lock().unwrap();
            shared.machine.handle(id, &message);
            for effect in shared.machine.take_effects() {
                if let Effect::Introduce(introduction) = effect {
                    shared.machine.introduced(&introduction, Ok(()));
                }
            }
            flush(&mut shared);
        }
    }
}

/// Sends everybody what waits for them.
fn flush(shared: &mut Shared) {
    for id in shared.machine.take_dirty() {
        loop {
            let waiting = shared.machine.output(id).to_vec();
            if waiting.is_empty() {
                break;
            }
            // A client that is gone needs no answer.
            let _ = shared.sockets[&id].try_clone().unwrap().write_all(&waiting);
            shared.machine.sent(id, waiting.len());
        }
    }
}

/// What the kernel's backends do: take what is new, let go of what shall end.
fn backend(client: &Client) {
    let root = "/local/domain/0/backend";
    client.watch(root, "backend").unwrap();
    while let Ok(Some(event)) = client.next_event(None) {
        if !event.path.ends_with("/state") || event.path.contains("/console/") {
            continue;
        }
        let answer = match client.read_optional(&event.path).unwrap().as_deref() {
            Some("1") => "2",
            Some("5") => "6",
            _ => continue,
        };
        // The device may be gone by now, and must not come back.
        let _: Result<(), xenstore::client::Error> = client.transaction(|transaction| {
            if transaction.exists(&event.path)? {
                transaction.write(&event.path, answer)?;
            }
            Ok(())
        });
    }
}
