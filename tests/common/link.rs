//! The line between a drive and its server, through which all goes: it can go dead.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How the server behind the line behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behaviour {
    /// As it is.
    Answers,
    /// It takes what it is asked and never answers.
    Silent,
    /// It answers a byte a second.
    Drips,
    /// Whoever connects, or is connected, is cut off.
    Gone,
}

/// A port of the loopback that leads to another one.
pub struct Link {
    pub port: u16,
    now: Arc<Now>,
    accepting: Option<JoinHandle<()>>,
}

struct Now {
    behaviour: Mutex<(Behaviour, bool)>,
    changed: Condvar,
}

impl Link {
    /// A line to the server at `port`, as it is.
    pub fn to(port: u16) -> Link {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let now = Arc::new(Now {
            behaviour: Mutex::new((Behaviour::Answers, false)),
            changed: Condvar::new(),
        });
        let shared = now.clone();
        let own_port = listener.local_addr().unwrap().port();
        let accepting = std::thread::spawn(move || accept(&listener, port, &shared));
        Link { port: own_port, now, accepting: Some(accepting) }
    }

    pub fn set(&self, behaviour: Behaviour) {
        self.now.behaviour.lock().unwrap().0 = behaviour;
        self.now.changed.notify_all();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        *self.now.behaviour.lock().unwrap() = (Behaviour::Gone, true);
        self.now.changed.notify_all();
        // It waits for the next one who connects.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(accepting) = self.accepting.take() {
            accepting.join().unwrap();
        }
    }
}

impl Now {
    fn behaviour(&self) -> Behaviour {
        self.behaviour.lock().unwrap().0
    }

    /// Waits until it behaves otherwise, at most so long.
    fn wait(&self, limit: Duration) {
        let now = self.behaviour.lock().unwrap();
        let _ = self.changed.wait_timeout(now, limit).unwrap();
    }
}

fn accept(listener: &TcpListener, port: u16, now: &Arc<Now>) {
    loop {
        let Ok((client, _)) = listener.accept() else { continue };
        if now.behaviour.lock().unwrap().1 {
            return;
        }
        if now.behaviour() == Behaviour::Gone {
            continue;
        }
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { continue };
        let ways = [(&client, &server, false), (&server, &client, true)];
        for (from, to, answers) in ways {
            let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            let now = now.clone();
            std::thread::spawn(move || {
                // Either end may be closed at any moment.
                let _ = carry(&from, &to, &now, answers);
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
            });
        }
    }
}

fn carry(mut from: &TcpStream, to: &TcpStream, now: &Now, answers: bool) -> std::io::Result<()> {
    let mut bytes = [0; 64 << 10];
    from.set_read_timeout(Some(Duration::from_millis(100)))?;
    loop {
        let len = match from.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(len) => len,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => 0,
            Err(error) => return Err(error),
        };
        pass(&bytes[..len], to, now, answers)?;
    }
}

fn pass(mut bytes: &[u8], mut to: &TcpStream, now: &Now, answers: bool) -> std::io::Result<()> {
    loop {
        match now.behaviour() {
            Behaviour::Gone => return Err(ErrorKind::ConnectionReset.into()),
            Behaviour::Answers => return to.write_all(bytes),
            Behaviour::Drips if !answers => return to.write_all(bytes),
            Behaviour::Silent | Behaviour::Drips if bytes.is_empty() => return Ok(()),
            Behaviour::Silent => now.wait(Duration::from_secs(1)),
            Behaviour::Drips => {
                to.write_all(&bytes[..1])?;
                bytes = &bytes[1..];
                now.wait(Duration::from_secs(1));
            }
        }
    }
}
