//! A line to the server that is looked at: which packets pass it, and where it is cut.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Next {
    Passes,
    /// Nor does any after it, this way.
    Lost,
    /// With the whole line.
    Cut,
}

/// Who looks at it.
pub trait Watcher: Send + Sync + 'static {
    /// A packet of the client, with the length before it.
    fn request(&self, packet: &[u8]) -> Next;
    /// One of the server.
    fn answer(&self, packet: &[u8]) -> Next;
}

pub struct Line<W> {
    pub port: u16,
    pub watcher: Arc<W>,
    ends: Arc<Ends>,
}

#[derive(Default)]
struct Ends {
    is_cut: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Ends {
    fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        for end in self.open.lock().unwrap().drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

impl<W: Watcher> Line<W> {
    pub fn to(server: u16, watcher: W) -> Line<W> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (watcher, ends) = (Arc::new(watcher), Arc::new(Ends::default()));
        let (watching, all) = (watcher.clone(), ends.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if all.is_cut.load(Ordering::SeqCst) {
                    return;
                }
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).unwrap();
                for end in [&client, &server] {
                    end.set_nodelay(true).unwrap();
                    all.open.lock().unwrap().push(end.try_clone().unwrap());
                }
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (there, back) = (watching.clone(), watching.clone());
                relay(all.clone(), from, to, move |packet| there.request(packet));
                relay(all.clone(), server, client, move |packet| back.answer(packet));
            }
        });
        Line { port, watcher, ends }
    }

    pub fn is_cut(&self) -> bool {
        self.ends.is_cut.load(Ordering::SeqCst)
    }
}

impl<W> Drop for Line<W> {
    fn drop(&mut self) {
        self.ends.cut();
        // Its last client: the thread that listens ends.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

fn relay(
    ends: Arc<Ends>,
    mut from: TcpStream,
    mut to: TcpStream,
    next: impl Fn(&[u8]) -> Next + Send + 'static,
) {
    std::thread::spawn(move || {
        while let Some(packet) = packet(&mut from) {
            match next(&packet) {
                Next::Passes if to.write_all(&packet).is_ok() => {}
                Next::Passes | Next::Cut => return ends.cut(),
                Next::Lost => return,
            }
        }
        // The other side learns that this one has gone.
        let _ = to.shutdown(Shutdown::Write);
    });
}

/// A packet with the length before it.
fn packet(from: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = [0; 4];
    from.read_exact(&mut head).ok()?;
    let mut packet = head.to_vec();
    packet.resize(4 + u32::from_be_bytes(head) as usize, 0);
    from.read_exact(&mut packet[4..]).ok()?;
    Some(packet)
}

/// Counts what passes; the bytes have to be readable, so nothing may be encrypted.
#[derive(Default)]
pub struct Counter {
    counted: Mutex<Counted>,
    /// Another packet of the client, or answers need not wait for one.
    asked: Condvar,
    /// Done once, before the first packet that copies passes.
    before_copy: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

#[derive(Clone, Default, Debug)]
pub struct Counted {
    /// Packets of the client.
    pub packets: usize,
    /// Of these those that were sent while no answer was missing.
    pub round_trips: usize,
    /// Bytes of the client.
    pub bytes: usize,
    /// Requests to copy.
    pub copies: usize,
    unanswered: Vec<u64>,
    /// No answer passes before so many packets of the client.
    held_until: usize,
}

impl Counter {
    /// What passed since this was asked last.
    pub fn take(&self) -> Counted {
        let mut counted = self.counted.lock().unwrap();
        let (unanswered, held_until) = (counted.unanswered.clone(), counted.held_until);
        let next = Counted { unanswered, held_until, ..Counted::default() };
        std::mem::replace(&mut *counted, next)
    }

    /// From now on answers wait until so many packets of the client have passed, as on a long line
    /// what is sent together passes before the first answer to it. 0: they do not wait.
    pub fn hold_answers_until(&self, packets: usize) {
        self.counted.lock().unwrap().held_until = packets;
        self.asked.notify_all();
    }

    /// Of the client, since then.
    pub fn bytes(&self) -> usize {
        self.counted.lock().unwrap().bytes
    }

    pub fn before_copy(&self, act: impl FnOnce() + Send + 'static) {
        *self.before_copy.lock().unwrap() = Some(Box::new(act));
    }
}

/// How long an answer is held at most: less than whoever asked waits for it.
const HELD: Duration = Duration::from_secs(8);

const COPY: u32 = 0x0014_80F2;
const IOCTL: u16 = 11;
const PENDING: u32 = 0x103;

/// Of each message of a packet: command, status, number, and the first number of its body.
fn messages(packet: &[u8]) -> Vec<(u16, u32, u64, u32)> {
    let mut found = Vec::new();
    let mut rest = &packet[4..];
    let number = |bytes: &[u8], at: usize| {
        u32::from_le_bytes(bytes.get(at..at + 4).map_or([0; 4], |it| it.try_into().unwrap()))
    };
    while rest.len() >= 64 && rest.starts_with(b"\xfeSMB") {
        let id = u64::from(number(rest, 24)) | u64::from(number(rest, 28)) << 32;
        found.push((number(rest, 12) as u16, number(rest, 8), id, number(rest, 68)));
        match number(rest, 20) as usize {
            0 => break,
            next => rest = rest.get(next..).unwrap_or_default(),
        }
    }
    found
}

impl Watcher for Counter {
    fn request(&self, packet: &[u8]) -> Next {
        let messages = messages(packet);
        let copies = messages.iter().filter(|(op, .., code)| (*op, *code) == (IOCTL, COPY)).count();
        let act = if copies > 0 { self.before_copy.lock().unwrap().take() } else { None };
        if let Some(act) = act {
            act();
        }
        let mut counted = self.counted.lock().unwrap();
        counted.packets += 1;
        counted.bytes += packet.len();
        counted.copies += copies;
        counted.round_trips += usize::from(counted.unanswered.is_empty());
        counted.unanswered.extend(messages.iter().map(|(_, _, id, _)| *id));
        self.asked.notify_all();
        Next::Passes
    }

    fn answer(&self, packet: &[u8]) -> Next {
        let messages = messages(packet);
        let answered = messages.iter().filter(|(_, status, ..)| *status != PENDING);
        let answered: Vec<u64> = answered.map(|(_, _, id, _)| *id).collect();
        let counted = self.counted.lock().unwrap();
        let is_held = |counted: &mut Counted| counted.packets < counted.held_until;
        let (mut counted, _) = self.asked.wait_timeout_while(counted, HELD, is_held).unwrap();
        counted.unanswered.retain(|id| !answered.contains(id));
        Next::Passes
    }
}
