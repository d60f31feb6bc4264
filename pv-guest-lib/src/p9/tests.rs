//! The client against a model of a server, and against liars.

use super::client::{Client, Mode, P9Error, Transport};
use super::message::{Entry, HEADER, Reader, Writer, kind};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A folder of files, and what each fid stands for. It answers as an honest server does.
#[derive(Default)]
struct Server {
    files: BTreeMap<String, Vec<u8>>,
    fids: BTreeMap<u32, String>,
    /// What the client is told to keep to.
    max: u32,
}

const FOLDER: &str = "";

impl Server {
    fn new(max: u32) -> Self {
        Self { max, ..Self::default() }
    }

    fn entry(&self, name: &str) -> Entry {
        let length = self.files.get(name).map_or(0, |file| file.len() as u64);
        Entry { name: name.into(), length, is_folder: name == FOLDER }
    }

    fn answer(&mut self, kind: u8, mut request: Reader<'_>, writer: Writer) -> Result<Writer, u32> {
        if kind == kind::VERSION {
            let max = request.u32().unwrap().min(self.max);
            let text = request.text().unwrap();
            return Ok(writer.u32(max).text(&text));
        }
        let fid = request.u32().unwrap();
        if kind == kind::ATTACH {
            self.fids.insert(fid, FOLDER.into());
            return Ok(writer.bytes(&[0; 13]));
        }
        let name = self.fids.get(&fid).cloned().expect("the client uses fids it has");
        Ok(match kind {
            kind::WALK => {
                let new = request.u32().unwrap();
                let names: Vec<_> =
                    (0..request.u16().unwrap()).map(|_| request.text().unwrap()).collect();
                match names.as_slice() {
                    [] => drop(self.fids.insert(new, name)),
                    [one] if self.files.contains_key(one) => {
                        drop(self.fids.insert(new, one.clone()))
                    }
                    _ => return Err(2),
                }
                let count = u16::try_from(names.len()).unwrap();
                writer.u16(count).bytes(&vec![0; 13 * names.len()])
            }
            kind::OPEN => {
                if request.u8().unwrap() & 0x10 != 0 {
                    self.files.insert(name, Vec::new());
                }
                writer.bytes(&[0; 17])
            }
            kind::CREATE => {
                let new = request.text().unwrap();
                assert_eq!(request.u32(), Ok(0o600));
                if self.files.insert(new.clone(), Vec::new()).is_some() {
                    return Err(17);
                }
                self.fids.insert(fid, new);
                writer.bytes(&[0; 17])
            }
            kind::READ => {
                let (at, count) = (request.u64().unwrap(), request.u32().unwrap());
                let listed: Vec<u8>;
                let bytes = if name == FOLDER {
                    listed = self.files.keys().flat_map(|name| self.entry(name).write()).collect();
                    &listed
                } else {
                    self.files.get(&name).ok_or(9u32)?
                };
                let from = bytes.len().min(usize::try_from(at).unwrap());
                let to = bytes.len().min(from + count as usize);
                writer.u32(u32::try_from(to - from).unwrap()).bytes(&bytes[from..to])
            }
            kind::WRITE => {
                let at = usize::try_from(request.u64().unwrap()).unwrap();
                let count = request.u32().unwrap();
                let bytes = request.bytes(count as usize).unwrap();
                let file = self.files.get_mut(&name).ok_or(9u32)?;
                file.resize(file.len().max(at + bytes.len()), 0);
                file[at..at + bytes.len()].copy_from_slice(bytes);
                writer.u32(count)
            }
            kind::STAT => writer.u16(0).bytes(&self.entry(&name).write()),
            kind::CLUNK => {
                self.fids.remove(&fid);
                writer
            }
            kind::REMOVE => {
                self.fids.remove(&fid);
                self.files.remove(&name).map(|_| writer).ok_or(1u32)?
            }
            _ => return Err(22),
        })
    }
}

impl Transport for Server {
    type Error = ();

    fn exchange(&mut self, request: &[u8], max: u32) -> Result<Vec<u8>, ()> {
        assert!(request.len() <= max as usize, "a request is longer than agreed");
        let (kind, tag, reader) = Reader::message(request).unwrap();
        let answer =
            self.answer(kind, reader, Writer::new(kind + 1, tag)).unwrap_or_else(|errno| {
                Writer::new(kind::ERROR + 1, tag).text("it cannot be").u32(errno)
            });
        let answer = answer.finish();
        assert!(answer.len() <= max as usize, "an answer is longer than agreed");
        Ok(answer)
    }
}

fn client(max: u32) -> Client<Server> {
    let mut client = Client::new(Server::new(max), 65_536);
    client.connect().unwrap();
    client
}

#[test]
fn a_file_is_written_read_listed_and_removed() {
    let mut client = client(256);
    let bytes: Vec<u8> = (0..10_000u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
    client.write_all("one", &bytes).unwrap();
    assert_eq!(client.read_all("one", 10_000), Ok(bytes));
    assert!(matches!(client.read_all("one", 9_999), Err(P9Error::Refused { errno: 27, .. })));
    client.write_all("one", b"short").unwrap();
    client.write_all("/two", b"").unwrap();
    let names = |entries: Vec<Entry>| entries.into_iter().map(|entry| (entry.name, entry.length));
    let listed: Vec<_> = names(client.list("").unwrap()).collect();
    assert_eq!(listed, [("one".into(), 5), ("two".into(), 0)]);
    assert_eq!(client.stat("one").unwrap().length, 5);
    assert!(client.stat("/").unwrap().is_folder);
    client.remove("one").unwrap();
    assert!(matches!(client.open("one", Mode::Read), Err(P9Error::Refused { errno: 2, .. })));
    // Every fid but the folder's was given back.
    assert_eq!(client.transport().fids.len(), 1);
}

/// What Debian's `xen-9pfsd` says of a name: the bytes, and how many it counts.
fn by_debian(name: &str) -> (Vec<u8>, usize) {
    let entry = Entry { name: name.into(), length: 7, is_folder: false }.write();
    let size = u16::try_from(entry.len() - 2 + 10).unwrap();
    let mut bytes = (size + 2).to_le_bytes().to_vec();
    bytes.extend(size.to_le_bytes());
    bytes.extend(&entry[2..]);
    (bytes, usize::from(size) + 2)
}

#[test]
fn what_debians_daemon_says_of_files_is_understood() {
    let names: Vec<String> = (0..60).map(|number| format!("name {number}")).collect();
    let (mut bytes, mut counted) = (Vec::new(), 0);
    for (number, name) in names.iter().enumerate() {
        let (entry, count) = by_debian(name);
        let stat = Entry::read_stat(&entry).unwrap();
        assert_eq!((&stat.name, stat.length, stat.is_folder), (name, 7, false));
        bytes.extend(entry);
        counted += count;
        // It sends what an earlier message left in its buffer.
        let sent = [bytes.clone(), vec![0xee; counted - bytes.len()]].concat();
        let entries = Entry::read_all(&sent).unwrap();
        assert!(entries.iter().map(|entry| &entry.name).eq(&names[..=number]));
        assert!(Entry::read_all(&sent[..sent.len() - 1]).is_err());
    }
}

#[test]
fn paths_that_lead_out_are_not_asked_for() {
    let mut client = client(4096);
    for path in ["..", "a/../b", "a//b", "./a", "a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q"] {
        assert_eq!(client.open(path, Mode::Read).unwrap_err(), P9Error::Path, "{path}");
    }
    assert_eq!(client.create("a/..").unwrap_err(), P9Error::Path);
    assert_eq!(client.create("").unwrap_err(), P9Error::Path);
}

/// A server whose answers are changed on the way, from the `from`th on.
struct Liar<F> {
    server: Server,
    lie: F,
    from: usize,
}

impl<F: FnMut(Vec<u8>) -> Vec<u8>> Transport for Liar<F> {
    type Error = ();

    fn exchange(&mut self, request: &[u8], max: u32) -> Result<Vec<u8>, ()> {
        let answer = self.server.exchange(request, max)?;
        if self.from > 0 {
            self.from -= 1;
            return Ok(answer);
        }
        Ok((self.lie)(answer))
    }
}

/// Reads a file of five bytes from a server that lies from some answer on: 0 version, 1 attach, 2 walk, 3 open, 4 read.
fn told(from: usize, lie: impl FnMut(Vec<u8>) -> Vec<u8>) -> Result<Vec<u8>, P9Error<()>> {
    let mut server = Server::new(4096);
    server.files.insert("five".into(), b"bytes".to_vec());
    let mut client = Client::new(Liar { server, lie, from }, 65_536);
    client.connect()?;
    client.read_all("five", 100)
}

fn lied<T>(result: &Result<T, P9Error<()>>) -> bool {
    matches!(result, Err(P9Error::Lied(_)))
}

#[test]
fn each_lie_is_found_out() {
    assert_eq!(told(0, |answer| answer).as_deref(), Ok(&b"bytes"[..]));
    let at = |place: usize, value: u8| {
        move |mut answer: Vec<u8>| {
            // The answer to closing the file is shorter.
            if let Some(byte) = answer.get_mut(place) {
                *byte = value;
            }
            answer
        }
    };
    for from in 0..5 {
        assert!(lied(&told(from, at(0, 200))), "its size, {from}");
        assert!(lied(&told(from, at(4, 99))), "its kind, {from}");
        assert!(lied(&told(from, at(5, 7))), "its tag, {from}");
        assert!(lied(&told(from, |_| Vec::new())), "nothing at all, {from}");
        assert!(lied(&told(from, |answer| answer[..HEADER - 1].to_vec())), "half a header, {from}");
    }
    assert!(lied(&told(0, at(HEADER + 2, 9))), "longer messages than asked for");
    assert!(lied(&told(0, at(HEADER + 1, 0))), "messages too short for anything");
    assert!(lied(&told(0, at(HEADER + 4, 200))), "a text beyond the message's end");
    assert!(lied(&told(2, at(HEADER, 2))), "further than asked");
    assert!(lied(&told(4, at(HEADER, 101))), "more than asked");
    assert!(lied(&told(4, at(HEADER, 6))), "more than it sent");
}

proptest! {
    /// Whatever a server sends, the client comes to an end, with no more answers than a file of that size can take.
    #[test]
    fn no_answer_is_too_strange(
        from in 0usize..6,
        noise in proptest::collection::vec(any::<u8>(), 0..80),
        kind in any::<u8>(),
        keep_header: bool,
    ) {
        let mut answers = 0;
        let _ = told(from, |answer| {
            answers += 1;
            let mut strange = noise.clone();
            if keep_header {
                let kind = if kind < 200 { answer[4] } else { kind };
                strange = Writer::new(kind, u16::from_le_bytes([answer[5], answer[6]])).bytes(&noise).finish();
            }
            strange
        });
        prop_assert!(answers < 300);
    }

    #[test]
    fn a_file_is_what_was_written_to_it(writes in proptest::collection::vec((0u64..3000, proptest::collection::vec(any::<u8>(), 1..400)), 1..12)) {
        let mut client = client(128);
        let mut model = Vec::new();
        let file = client.create("file").unwrap();
        for (at, bytes) in writes {
            let mut sent = 0;
            while sent < bytes.len() {
                sent += client.write(&file, at + sent as u64, &bytes[sent..]).unwrap();
            }
            let at = usize::try_from(at).unwrap();
            model.resize(model.len().max(at + bytes.len()), 0);
            model[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        client.close(file).unwrap();
        prop_assert_eq!(client.read_all("file", 10_000), Ok(model));
    }
}
