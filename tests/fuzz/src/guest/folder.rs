//! A shared folder's front end, while its server answers anything.

use pv_guest_lib::p9::client::{Client, Transport};
use pv_guest_lib::p9::message::Writer;

/// A server that answers with what it has, until it has nothing left.
struct Server<'a> {
    answers: &'a [u8],
}

impl Transport for Server<'_> {
    type Error = ();

    /// The first byte says how long the answer is and whether its header is believable.
    fn exchange(&mut self, request: &[u8], _max: u32) -> Result<Vec<u8>, ()> {
        let (how, rest) = self.answers.split_first().ok_or(())?;
        let (answer, rest) = rest.split_at(rest.len().min(usize::from(how / 2)));
        self.answers = rest;
        let &[_, _, _, _, kind, low, high, ..] = request else { return Err(()) };
        if how % 2 == 0 {
            return Ok(answer.to_vec());
        }
        let tag = u16::from_le_bytes([low, high]);
        Ok(Writer::new(kind + 1, tag).bytes(answer).finish())
    }
}

/// Does all that can be done with a folder.
pub fn run(bytes: &[u8]) {
    let mut client = Client::new(Server { answers: bytes }, 4096);
    while !client.transport().answers.is_empty() {
        let _ = client.connect();
        assert!(client.read_all("a/b", 1000).map_or(0, |all| all.len()) <= 1000);
        let _ = (client.list(""), client.stat("c"));
        let _ = (client.write_all("d", &[7; 100]), client.remove("e"));
    }
}
