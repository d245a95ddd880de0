//! What the service's own client library never sends, and what many clients do at once.

use crate::http::{request, send};
use azure_files_emulator::{Config, Emulator, Operation};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

fn start() -> Emulator {
    let emulator = Emulator::start(Config::default()).unwrap();
    emulator.create_share("docs");
    emulator
}

/// What the server says to these bytes, the last of which ask it to close the connection.
fn say(emulator: &Emulator, text: &str) -> String {
    let mut stream = TcpStream::connect(emulator.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// How many of eight that do it at once get this status.
#[track_caller]
fn check_race(status: u16, expected: usize, act: impl Fn(usize) -> u16 + Sync) {
    let start = Barrier::new(8);
    let (start, act) = (&start, &act);
    let got: Vec<u16> = thread::scope(|scope| {
        let all: Vec<_> = (0..8)
            .map(|number| {
                scope.spawn(move || {
                    start.wait();
                    act(number)
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(got.iter().filter(|one| **one == status).count(), expected, "{got:?}");
}

#[test]
fn a_put_says_how_long_its_body_is() {
    let emulator = start();
    let target = format!("/{}/docs/f?{}", emulator.account(), emulator.account_sas("rwdlc", 60));
    let head = "Host: x\r\nx-ms-version: 2025-01-05\r\nx-ms-type: file\r\nx-ms-content-length: 4";
    let put = format!("PUT {target} HTTP/1.1\r\n{head}\r\nConnection: close\r\n\r\n");
    let answer = say(&emulator, &put);
    assert!(answer.starts_with("HTTP/1.1 411 "), "{answer}");
    assert!(answer.contains("<Code>MissingContentLengthHeader</Code>"), "{answer}");
}

#[test]
fn a_connection_carries_many_requests() {
    let emulator = start();
    let target =
        format!("/{}/docs?restype=share&{}", emulator.account(), emulator.account_sas("r", 60));
    let one = format!("GET {target} HTTP/1.1\r\nHost: x\r\nx-ms-version: 2025-01-05\r\n");
    let last = format!("{one}Connection: close\r\n\r\n");
    let answer = say(&emulator, &(format!("{one}\r\n").repeat(2) + &last));
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 3, "{answer}");
    assert_eq!((emulator.connections(), emulator.count(Operation::GetShareProperties)), (1, 3));
}

#[test]
fn what_is_no_address_of_the_account_is_told_so() {
    let emulator = start();
    for target in ["/", "/other/docs?restype=share", "/docs/f", "/favicon.ico"] {
        let answer = send(emulator.address(), "GET", target, &[], b"");
        assert_eq!((answer.status, answer.code()), (400, Some("InvalidUri")), "{target}");
    }
    let answer = request(&emulator, "GET", "docs/%ff", &[], b"");
    assert_eq!((answer.status, answer.code()), (400, Some("InvalidUri")));
}

#[test]
fn a_range_that_is_too_large_is_told_so() {
    let emulator = start();
    emulator.write("docs", "f", &[0; 100]);
    let body = vec![1; (4 << 20) + 1];
    let headers = [("x-ms-write", "update"), ("x-ms-range", "bytes=0-4194304")];
    let answer = request(&emulator, "PUT", "docs/f?comp=range", &headers, &body);
    assert_eq!((answer.status, answer.code()), (413, Some("RequestBodyTooLarge")));
    assert_eq!(emulator.read("docs", "f").unwrap(), [0; 100]);
}

#[test]
fn of_many_that_lease_or_rename_one_wins() {
    let emulator = start();
    emulator.write("docs", "f", b"x");
    let headers = [("x-ms-lease-action", "acquire"), ("x-ms-lease-duration", "-1")];
    check_race(201, 1, |_| request(&emulator, "PUT", "docs/f?comp=lease", &headers, b"").status);
    for number in 0..8 {
        emulator.write("docs", &format!("from{number}"), b"x");
    }
    check_race(200, 1, |number| {
        let sas = emulator.account_sas("rw", 60);
        let source = format!("{}/docs/from{number}?{sas}", emulator.endpoint());
        let headers = [("x-ms-file-rename-source", source.as_str())];
        request(&emulator, "PUT", "docs/to?comp=rename", &headers, b"").status
    });
    check_race(201, 1, |_| {
        request(&emulator, "PUT", "docs/new?restype=directory", &[], b"").status
    });
}

#[test]
fn nobody_sees_half_of_a_range() {
    let emulator = start();
    emulator.write("docs", "f", &[0; 1 << 20]);
    let headers = [("x-ms-write", "update"), ("x-ms-range", "bytes=0-1048575")];
    check_race(0, 8, |number| {
        for round in 0..10u8 {
            if number % 2 == 0 {
                let body = vec![number as u8 * 16 + round; 1 << 20];
                request(&emulator, "PUT", "docs/f?comp=range", &headers, &body);
            } else {
                let body = request(&emulator, "GET", "docs/f", &[], b"").body;
                assert_eq!(body.len(), 1 << 20);
                assert!(body.iter().all(|byte| *byte == body[0]), "two ranges in one answer");
            }
        }
        0
    });
}

#[test]
fn a_pending_copy_keeps_writers_out_until_it_ends() {
    let config = Config { copies_pending: true, ..Config::default() };
    let emulator = Emulator::start(config).unwrap();
    emulator.create_share("docs");
    emulator.write("docs", "f", b"copied");
    let source = format!("{}/docs/f?{}", emulator.endpoint(), emulator.account_sas("r", 60));
    let copy = |to: &str| request(&emulator, "PUT", to, &[("x-ms-copy-source", &source)], b"");
    let answer = copy("docs/one");
    assert_eq!((answer.status, answer.header("x-ms-copy-status")), (202, Some("pending")));
    for to in ["docs/one?comp=metadata", "docs/one?comp=properties"] {
        let answer = request(&emulator, "PUT", to, &[], b"");
        assert_eq!((answer.status, answer.code()), (409, Some("PendingCopyOperation")));
    }
    assert_eq!(copy("docs/one").code(), Some("PendingCopyOperation"));
    let headers = [("x-ms-lease-action", "acquire"), ("x-ms-lease-duration", "-1")];
    let answer = request(&emulator, "PUT", "docs/one?comp=lease", &headers, b"");
    assert_eq!(answer.code(), Some("PendingCopyOperation"));
    assert_eq!(emulator.read("docs", "one").unwrap(), [0; 6]);
    emulator.finish_copies();
    assert_eq!(emulator.read("docs", "one").unwrap(), b"copied");
    let head = request(&emulator, "HEAD", "docs/one", &[], b"");
    assert_eq!(head.header("x-ms-copy-progress"), Some("6/6"));

    let id = copy("docs/two").header("x-ms-copy-id").unwrap().to_owned();
    let abort = || {
        let target = format!("docs/two?comp=copy&copyid={id}");
        request(&emulator, "PUT", &target, &[("x-ms-copy-action", "abort")], b"")
    };
    assert_eq!(abort().status, 204);
    assert_eq!(abort().code(), Some("NoPendingCopyOperation"));
    emulator.finish_copies();
    assert_eq!(emulator.read("docs", "two").unwrap(), b"");
}

#[test]
fn a_file_of_many_names_goes_with_its_last() {
    let emulator = start();
    emulator.create_nfs_share("nfs");
    emulator.create_dir("nfs", "a");
    emulator.write("nfs", "b/one", b"x");
    let link = |name: &str| {
        let headers = [("x-ms-type", "file"), ("x-ms-file-target-file", "b/one")];
        request(&emulator, "PUT", &format!("nfs/{name}?restype=hardlink"), &headers, b"")
    };
    assert_eq!((link("a/two").status, link("three").status), (201, 201));
    assert!(emulator.remove("nfs", "b"));
    assert!(emulator.remove("nfs", "three"));
    let answer = request(&emulator, "HEAD", "nfs/a/two", &[], b"");
    assert_eq!(answer.header("x-ms-link-count"), Some("1"));
    let parent = emulator.stat("nfs", "a").unwrap().file_id.to_string();
    assert_eq!(answer.header("x-ms-file-parent-id"), Some(&*parent));
    assert_eq!(emulator.read("nfs", "a/two").unwrap(), b"x");
    assert!(emulator.remove("nfs", "a"));
    assert!(emulator.walk("nfs").is_empty());
}

#[test]
fn tokens_are_counted_and_go_wrong_on_request() {
    let emulator = start();
    let ask = || {
        let target = "/metadata/identity/oauth2/token?api-version=2018-02-01\
            &resource=https://storage.azure.com/";
        send(emulator.address(), "GET", target, &[("Metadata", "true")], b"")
    };
    emulator.faults().add("answer=429/throttled on=GetMachineToken count=1".parse().unwrap());
    assert_eq!((ask().status, ask().status), (429, 200));
    assert_eq!(emulator.count(Operation::GetMachineToken), 2);
    let form = b"grant_type=client_credentials&client_id=x&client_secret=y&scope=z";
    let answer = send(emulator.address(), "POST", "/tenant/oauth2/v2.0/token", &[], form);
    assert_eq!((answer.status, emulator.count(Operation::GetToken)), (400, 1));
}
