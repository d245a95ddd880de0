//! The least of an HTTP client: one connection a request, so that how it ends can be seen.

use azure_files_emulator::Emulator;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer, as far as it came.
#[derive(Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    /// Whether the server hung up, in place of saying nothing more.
    pub ended: bool,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn code(&self) -> Option<&str> {
        self.header("x-ms-error-code")
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A request with a SAS of the account; `target` is below the account.
pub fn request(
    emulator: &Emulator,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    send(emulator.address(), method, &signed(emulator, target), headers, body)
}

/// The same for a file, of whose bytes only so many are to come; then the server is to be silent.
pub fn get_stalled(emulator: &Emulator, target: &str, silent_at: usize) -> Answer {
    let target = signed(emulator, target);
    exchange(emulator.address(), "GET", &target, &[], b"", Some(silent_at))
}

fn signed(emulator: &Emulator, target: &str) -> String {
    let sas = emulator.account_sas("rwdlc", 3600);
    let mark = if target.contains('?') { '&' } else { '?' };
    format!("/{}/{target}{mark}{sas}", emulator.account())
}

/// A request as it is. Reads until the answer is whole or the server hangs up.
pub fn send(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    exchange(address, method, target, headers, body, None)
}

fn exchange(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    silent_at: Option<usize>,
) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\n");
    head += &format!("Content-Length: {}\r\nx-ms-version: 2025-01-05\r\n", body.len());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    read_answer(&mut stream, method == "HEAD", silent_at).unwrap()
}

fn read_answer(
    stream: &mut TcpStream,
    head_only: bool,
    silent_at: Option<usize>,
) -> io::Result<Answer> {
    let mut answer = Answer::default();
    let mut all = Vec::new();
    let mut buffer = vec![0; 65_536];
    loop {
        if let Some(at) = all.windows(4).position(|four| four == b"\r\n\r\n") {
            answer.head = String::from_utf8_lossy(&all[..at]).into_owned();
            answer.status = answer.head[9..12].parse().unwrap();
            answer.body = all[at + 4..].to_vec();
            let length = answer.header("content-length").map_or(0, |text| text.parse().unwrap());
            if head_only || answer.body.len() >= length {
                return Ok(answer);
            }
            if silent_at.is_some_and(|at| answer.body.len() >= at) {
                // What came after all would come at once.
                stream.set_read_timeout(Some(Duration::from_millis(700)))?;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(Answer { ended: true, ..answer }),
            Ok(count) => all.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Ok(Answer { ended: true, ..answer });
            }
            Err(error) => {
                let silent = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut];
                assert!(silent.contains(&error.kind()), "{error}");
                return Ok(answer);
            }
        }
    }
}
