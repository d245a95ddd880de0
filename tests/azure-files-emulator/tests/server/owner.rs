//! What the owner of a server does without HTTP, how the account is kept, and the program.

use crate::http::{request, send};
use azure_files_emulator::{Config, Emulator, LeaseState, Operation};
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Command, Stdio};

fn start() -> Emulator {
    let emulator = Emulator::start(Config::default()).unwrap();
    emulator.create_share("docs");
    emulator
}

fn names(emulator: &Emulator) -> Vec<String> {
    emulator.walk("docs").into_iter().map(|entry| entry.name).collect()
}

#[test]
fn what_the_owner_does_is_seen_by_clients_and_the_other_way_round() {
    let emulator = start();
    emulator.write("docs", "a/b/f.txt", b"hello");
    let answer = request(&emulator, "GET", "docs/a/b/F.TXT", &[], b"");
    assert_eq!((answer.status, &*answer.body), (200, &b"hello"[..]));
    let before = emulator.stat("docs", "a/b/f.txt").unwrap();
    assert_eq!(answer.header("etag"), Some(&*before.etag));
    assert_eq!(answer.header("x-ms-file-id"), Some(&*before.file_id.to_string()));
    emulator.write("docs", "a/b/f.txt", b"hello, world");
    let after = emulator.stat("docs", "a/b/f.txt").unwrap();
    assert!(after.etag != before.etag && after.written_ticks > before.written_ticks);
    assert_eq!((after.file_id, after.size_bytes), (before.file_id, 12));
    emulator.write_at("docs", "a/b/f.txt", 0, b"J");
    assert_eq!(emulator.read("docs", "a/b/f.txt").unwrap(), b"Jello, world");
    let headers = [("x-ms-type", "file"), ("x-ms-content-length", "3")];
    assert_eq!(request(&emulator, "PUT", "docs/zeros", &headers, b"").status, 201);
    assert_eq!(emulator.read("docs", "zeros").unwrap(), [0; 3]);
    assert_eq!(names(&emulator), ["a", "a/b", "a/b/f.txt", "zeros"]);
    assert!(emulator.rename("docs", "a/b", "c/d"));
    assert_eq!(names(&emulator), ["a", "c", "c/d", "c/d/f.txt", "zeros"]);
    assert!(emulator.remove("docs", "c") && !emulator.remove("docs", "c"));
    assert_eq!(emulator.list("docs", "").len(), 2);
    assert_eq!(emulator.read("docs", "c/d/f.txt"), None);
}

#[test]
fn the_owner_leases_and_takes_snapshots() {
    let emulator = start();
    emulator.write("docs", "f", b"before");
    let lease = emulator.lease("docs", "f").unwrap();
    let delete = |headers: &[(&str, &str)]| request(&emulator, "DELETE", "docs/f", headers, b"");
    assert_eq!(delete(&[]).code(), Some("LeaseIdMissing"));
    assert_eq!(emulator.stat("docs", "f").unwrap().lease, LeaseState::Leased(lease.clone()));
    let snapshot = emulator.snapshot("docs");
    assert!(emulator.break_lease("docs", "f"));
    assert_eq!(delete(&[("x-ms-lease-id", &lease)]).code(), Some("LeaseLost"));
    assert_eq!(delete(&[]).status, 202);
    let answer = request(&emulator, "GET", &format!("docs/f?sharesnapshot={snapshot}"), &[], b"");
    assert_eq!(answer.body, b"before");
    emulator.write("docs", "g", b"x");
    emulator.set_attributes("docs", "g", "ReadOnly");
    assert_eq!(request(&emulator, "DELETE", "docs/g", &[], b"").code(), Some("ReadOnlyAttribute"));
}

#[test]
fn another_client_can_come_in_between() {
    let emulator = start();
    emulator.write("docs", "f", b"old");
    emulator.before(Operation::GetFile, "docs/f", |owner| owner.write("docs", "f", b"between"));
    emulator.after(Operation::DeleteFile, "docs/f", |owner| owner.write("docs", "f", b"again"));
    assert_eq!(request(&emulator, "GET", "docs/f", &[], b"").body, b"between");
    emulator.write("docs", "f", b"once");
    assert_eq!(request(&emulator, "GET", "docs/f", &[], b"").body, b"once");
    assert_eq!(request(&emulator, "DELETE", "docs/f", &[], b"").status, 202);
    assert_eq!(emulator.read("docs", "f").unwrap(), b"again");
    assert_eq!(emulator.connections(), 3);
}

#[test]
fn requests_are_counted_and_the_newest_are_remembered() {
    let emulator = start();
    emulator.write("docs", "f", b"12345");
    request(&emulator, "GET", "docs/f", &[("x-ms-range", "bytes=1-2")], b"");
    request(&emulator, "GET", "docs/none", &[], b"");
    assert_eq!(emulator.count(Operation::GetFile), 2);
    assert_eq!(emulator.count(Operation::PutRange), 0);
    let log = emulator.log();
    let seen: Vec<_> = log.iter().map(|line| (&*line.path, line.status)).collect();
    assert_eq!(seen, [("docs/f", 206), ("docs/none", 404)]);
    assert_eq!(log[0].answer_bytes, 2);
    emulator.reset_counts();
    assert!(emulator.counts().is_empty() && emulator.log().is_empty());
}

#[test]
fn pages_are_shorter_where_the_server_is_told_so() {
    let config = Config { page_entries_max: 2, ..Config::default() };
    let emulator = Emulator::start(config).unwrap();
    emulator.create_share("docs");
    for name in ["a", "b", "c"] {
        emulator.write("docs", name, b"");
    }
    let list = "docs?restype=directory&comp=list";
    let first = request(&emulator, "GET", list, &[], b"").text();
    assert_eq!(first.matches("<File>").count(), 2);
    let marker = first.split("<NextMarker>").nth(1).unwrap().split('<').next().unwrap();
    let second = request(&emulator, "GET", &format!("{list}&marker={marker}"), &[], b"").text();
    assert!(second.contains("<Name>c</Name>") && second.contains("<NextMarker />"), "{second}");
}

#[test]
fn whether_creating_over_a_file_gives_a_new_id_can_be_chosen() {
    for gives_new in [false, true] {
        let config = Config { create_over_gives_new_id: gives_new, ..Config::default() };
        let emulator = Emulator::start(config).unwrap();
        emulator.create_share("docs");
        emulator.write("docs", "f", b"x");
        let before = emulator.stat("docs", "f").unwrap();
        let headers = [("x-ms-type", "file"), ("x-ms-content-length", "3")];
        assert_eq!(request(&emulator, "PUT", "docs/F", &headers, b"").status, 201);
        let after = emulator.stat("docs", "f").unwrap();
        assert_eq!(after.file_id != before.file_id, gives_new);
        assert_eq!((after.name.as_str(), after.size_bytes), ("f", 3));
        assert_eq!(names(&emulator), ["f"]);
    }
}

#[test]
fn a_server_that_is_dropped_listens_no_more() {
    let emulator = start();
    let address = emulator.address();
    assert!(TcpStream::connect(address).is_ok());
    drop(emulator);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn an_account_is_kept_in_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let config = || Config { root: Some(dir.path().to_owned()), ..Config::default() };
    let emulator = Emulator::start(config()).unwrap();
    emulator.create_share("docs");
    let data: Vec<u8> = (0..200_000u32).map(|at| at as u8).collect();
    emulator.write("docs", "d/f", &data);
    emulator.write("docs", "gone", b"x");
    let headers = [("x-ms-type", "file"), ("x-ms-content-length", "1000000000000")];
    request(&emulator, "PUT", "docs/sparse", &headers, b"");
    emulator.write_at("docs", "sparse", 999_999_999_990, b"the end");
    let lease = emulator.lease("docs", "d/f").unwrap();
    let snapshot = emulator.snapshot("docs");
    emulator.write_at("docs", "d/f", 0, b"changed");
    emulator.save().unwrap();
    assert!(emulator.remove("docs", "gone"));
    let before = emulator.walk("docs");
    let second = Emulator::start(config());
    assert!(second.is_err_and(|error| error.to_string().contains("another server's")));
    drop(emulator);

    let emulator = Emulator::start(config()).unwrap();
    assert_eq!(emulator.walk("docs"), before);
    assert_eq!(emulator.stat("docs", "d/f").unwrap().lease, LeaseState::Leased(lease));
    assert_eq!(emulator.read("docs", "d/f").unwrap()[..9], *b"changed\x07\x08");
    let then = format!("docs/d/f?sharesnapshot={snapshot}");
    assert_eq!(request(&emulator, "GET", &then, &[], b"").body, data);
    let headers = [("x-ms-range", "bytes=999999999985-")];
    let end = request(&emulator, "GET", "docs/sparse", &headers, b"").body;
    assert_eq!(end, b"\0\0\0\0\0the end\0\0\0");
    let changed = format!("docs/d/f?comp=rangelist&prevsharesnapshot={snapshot}");
    let changed = request(&emulator, "GET", &changed, &[], b"").text();
    assert!(changed.contains("<Range><Start>0</Start><End>511</End></Range>"), "{changed}");
    emulator.write("docs", "new", b"x");
    let new = emulator.stat("docs", "new").unwrap();
    let clash = |entry: &azure_files_emulator::Entry| {
        entry.file_id == new.file_id || entry.etag == new.etag
    };
    assert!(!before.iter().any(clash), "ids and ETags are never given twice");
}

#[test]
fn the_program_prints_how_to_reach_it() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_azure-files-emulator"));
    program.args(["--listen", "127.0.0.1:0", "--share", "docs"]);
    program.args(["--fault", "answer=503/ServerBusy on=GetFile count=1"]);
    let mut program = program.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let lines: Vec<String> = lines.take(2).map(Result::unwrap).collect();
    let start = "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=Eby8";
    assert!(lines[0].starts_with(start), "{lines:?}");
    let address = lines[0].split("FileEndpoint=http://").nth(1).unwrap();
    let address = address.split('/').next().unwrap().parse().unwrap();
    let answer = send(address, "GET", "/devstoreaccount1/docs/f", &[], b"");
    assert_eq!(answer.status, 503);
    let answer = send(address, "GET", "/devstoreaccount1/docs/f", &[], b"");
    assert_eq!((answer.status, answer.code()), (401, Some("NoAuthenticationInformation")));
    program.kill().unwrap();
    program.wait().unwrap();
}
