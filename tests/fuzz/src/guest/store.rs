//! The guest's side of the store, while the other side sends anything.

use hypercall_abi::io::xs_wire::{XS_READ, XS_WATCH};
use pv_guest_lib::byte_ring::{Reader, Writer};
use pv_guest_lib::page::SharedPages;
use pv_guest_lib::xenstore::connection::Connection;
use pv_guest_lib::xenstore::rings;

/// Sends the bytes in parts to a guest that keeps asking.
pub fn run(bytes: &[u8]) {
    let page = SharedPages::allocate(1);
    let [requests, responses] = rings(page);
    let mut guest = Connection::new(Writer::new(requests), Reader::new(responses));
    let mut store = Writer::new(responses);
    let mut sink = Reader::new(requests);
    let token = guest.add_watch("device");
    let mut asked = vec![];
    for part in bytes.chunks(96) {
        asked.extend(guest.ask(XS_READ, 0, &[b"a\0"]));
        asked.extend(guest.ask(XS_WATCH, 0, &[b"b\0", b"1\0"]));
        let _ = store.write(part);
        let _ = guest.pump();
        let _ = sink.read(&mut [0; 512]);
        asked.retain(|id| guest.answer(*id).is_none());
        while let Some(Ok(_)) = guest.event(token) {}
    }
    page.recycle();
}
