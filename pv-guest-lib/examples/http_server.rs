//! A web server: `/` shows the guest's own statistics, `/bytes/N` is N bytes to measure with. Its address is on its command line:
//! `ip=192.168.77.20/24`. docs/guest-in-rust.md builds it step by step.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod guest {
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;
    use pv_guest_lib::net::smoltcp::Stack;
    use pv_guest_lib::{event, grant, say, time, tree};
    use smoltcp::iface::SocketHandle;

    const PORT: u16 = 80;
    const CONNECTIONS: usize = 8;
    const BUFFER: usize = 256 << 10;
    /// The longest request's head.
    const MAX_REQUEST: usize = 8 << 10;

    pv_guest_lib::entry!(main);

    /// A connection and where it is.
    struct Connection {
        handle: SocketHandle,
        request: Vec<u8>,
        /// What is left to be sent: text, then so many bytes to measure with.
        reply: Option<(Vec<u8>, u64)>,
    }

    fn main() {
        let mut stack = match Stack::from_command_line() {
            Ok(stack) => stack,
            Err(error) => return say!("no network: {error}"),
        };
        let connect = |handle| Connection { handle, request: Vec::new(), reply: None };
        let mut connections: Vec<Connection> =
            (0..CONNECTIONS).map(|_| connect(stack.add_tcp(BUFFER))).collect();
        let mut served = 0;
        say!("http: ready");
        loop {
            if let Err(error) = stack.poll() {
                say!("http: the interface was closed: {error}");
            }
            for connection in &mut connections {
                serve(&mut stack, connection, &mut served);
            }
            stack.wait();
        }
    }

    fn serve(stack: &mut Stack, connection: &mut Connection, served: &mut u64) {
        let socket = stack.tcp(connection.handle);
        if !socket.is_open() {
            connection.request.clear();
            connection.reply = None;
            // The port is not 0 and the socket is closed.
            let _ = socket.listen(PORT);
            return;
        }
        if connection.reply.is_none() && socket.can_recv() {
            let request = &mut connection.request;
            // It can receive.
            let _ = socket.recv(|bytes| {
                request.extend_from_slice(bytes);
                (bytes.len(), ())
            });
        }
        if connection.reply.is_none() {
            let whole = connection.request.windows(4).any(|end| end == b"\r\n\r\n");
            if whole || connection.request.len() > MAX_REQUEST {
                *served += 1;
                connection.reply = Some(answer(stack, &connection.request, *served));
            } else if hung_up(stack.tcp(connection.handle)) {
                stack.tcp(connection.handle).close();
            }
        }
        let socket = stack.tcp(connection.handle);
        if let Some((text, bytes)) = &mut connection.reply {
            send(socket, text, bytes);
            if text.is_empty() && *bytes == 0 {
                socket.close();
            }
        }
    }

    /// Returns whether the client will say no more; a socket that still listens has no client.
    fn hung_up(socket: &smoltcp::socket::tcp::Socket<'_>) -> bool {
        socket.may_send() && !socket.may_recv()
    }

    /// Gives the socket what it has room for.
    fn send(socket: &mut smoltcp::socket::tcp::Socket<'_>, text: &mut Vec<u8>, bytes: &mut u64) {
        if !text.is_empty() && socket.can_send() {
            let sent = socket.send_slice(text).unwrap_or_default();
            text.drain(..sent);
        }
        while text.is_empty() && *bytes > 0 && socket.can_send() {
            let sent = socket.send(|room| {
                let count = usize::try_from(*bytes).unwrap_or(usize::MAX).min(room.len());
                if let Some(room) = room.get_mut(..count) {
                    room.fill(b'x');
                }
                (count, count)
            });
            *bytes -= sent.unwrap_or_default() as u64;
        }
    }

    /// Returns the answer to a request: text, and how many bytes to measure with follow.
    fn answer(stack: &mut Stack, request: &[u8], served: u64) -> (Vec<u8>, u64) {
        let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let line = core::str::from_utf8(line).unwrap_or_default();
        let mut words = line.split(' ');
        let (status, kind, text, bytes) = match (words.next(), words.next()) {
            (Some("GET"), Some("/")) => ("200 OK", "text/html", page(stack, served), 0),
            (Some("GET"), Some(path)) => {
                match path.strip_prefix("/bytes/").map(str::parse::<u64>) {
                    Some(Ok(count)) => ("200 OK", "application/octet-stream", String::new(), count),
                    _ => {
                        ("404 Not Found", "text/plain", String::from("There is no such page.\n"), 0)
                    }
                }
            }
            _ => ("400 Bad Request", "text/plain", String::from("Only GET is understood.\n"), 0),
        };
        let length = text.len() as u64 + bytes;
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        ([head.into_bytes(), text.into_bytes()].concat(), bytes)
    }

    /// Returns the page with the guest's statistics.
    fn page(stack: &mut Stack, served: u64) -> String {
        let interface = stack.device().interface();
        let (mac, queues) = (interface.mac(), interface.queue_count());
        let network = interface.statistics();
        let memory: u64 = tree::get().memory.iter().map(|range| range.len).sum();
        let milliseconds = time::nanoseconds() / 1_000_000;
        let (grants, most_grants) = grant::limits().unwrap_or_default();
        let rows = [
            ("Up for", format!("{}.{:03} s", milliseconds / 1000, milliseconds % 1000)),
            ("Virtual processors", format!("{}", tree::get().cpus)),
            ("Memory", format!("{} KiB", memory / 1024)),
            ("Requests served", format!("{served}")),
            ("Network address", format!("{mac}, {queues} queue(s)")),
            ("Received", format!("{} frames, {} bytes", network.received, network.received_bytes)),
            ("Received in vain", format!("{} frames", network.received_in_vain)),
            ("Sent", format!("{} frames, {} bytes", network.sent, network.sent_bytes)),
            ("Event channels", format!("{}", event::channels())),
            ("Grants in use", format!("{grants} of {most_grants}")),
        ];
        let rows = rows.map(|(name, value)| format!("<tr><th>{name}<td>{value}\n"));
        let head = "<!doctype html><title>A guest in Rust</title><h1>A guest in Rust</h1>\n";
        format!("{head}<table>\n{}</table>\n", rows.concat())
    }
}

/// Off the machine there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
