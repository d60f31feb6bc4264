//! Says back what it is told, on TCP port 7 (RFC 862). Its address is on its command line: `ip=192.168.77.30/24`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod guest {
    use pv_guest_lib::net::smoltcp::Stack;
    use pv_guest_lib::say;

    const PORT: u16 = 7;
    const BUFFER: usize = 64 << 10;

    pv_guest_lib::entry!(main);

    fn main() {
        let mut stack = match Stack::from_command_line() {
            Ok(stack) => stack,
            Err(error) => return say!("no network: {error}"),
        };
        let connections = [0; 4].map(|_| stack.add_tcp(BUFFER));
        say!("echo: ready");
        loop {
            if let Err(error) = stack.poll() {
                say!("echo: the interface was closed: {error}");
            }
            for handle in connections {
                let socket = stack.tcp(handle);
                if !socket.is_open() {
                    // The port is not 0 and the socket is closed.
                    let _ = socket.listen(PORT);
                }
                while socket.can_recv() && socket.can_send() {
                    let room = socket.send_capacity() - socket.send_queue();
                    let told = socket.recv(|bytes| {
                        let count = bytes.len().min(room);
                        (count, bytes.get(..count).unwrap_or_default().to_vec())
                    });
                    // Both directions are open.
                    let _ = told.map(|told| socket.send_slice(&told));
                }
                if !socket.may_recv() && socket.may_send() && socket.recv_queue() == 0 {
                    socket.close();
                }
            }
            stack.wait();
        }
    }
}

/// Off the machine there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
