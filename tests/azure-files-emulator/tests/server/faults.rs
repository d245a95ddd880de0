//! Faults as a client sees them on the wire, and what the server did or did not do before.

use crate::http::{get_stalled, request, send};
use azure_files_emulator::{Config, Emulator, Fault, Operation, Rule, Sharing};
use std::time::Duration;

fn start() -> Emulator {
    let emulator = Emulator::start(Config::default()).unwrap();
    emulator.create_share("docs");
    emulator
}

const RANGE: [(&str, &str); 2] = [("x-ms-write", "update"), ("x-ms-range", "bytes=0-4")];

#[test]
fn a_busy_server_says_when_to_come_back_and_does_nothing() {
    let emulator = start();
    emulator.write("docs", "f", b"12345");
    let rule = Rule::busy(Some(7)).on(Operation::PutRange).times(2);
    let id = emulator.faults().add(rule);
    for _ in 0..2 {
        let answer = request(&emulator, "PUT", "docs/f?comp=range", &RANGE, b"abcde");
        assert_eq!((answer.status, answer.code()), (503, Some("ServerBusy")));
        assert_eq!(answer.header("retry-after"), Some("7"));
        assert!(answer.text().contains("<Code>ServerBusy</Code>"));
    }
    assert_eq!(emulator.read("docs", "f").unwrap(), b"12345");
    let answer = request(&emulator, "PUT", "docs/f?comp=range", &RANGE, b"abcde");
    assert_eq!(answer.status, 201, "the storm is over");
    assert_eq!(emulator.read("docs", "f").unwrap(), b"abcde");
    assert_eq!(emulator.faults().fired(id), 2);
    assert_eq!(emulator.count(Operation::PutRange), 3);
}

#[test]
fn any_error_can_be_asked_for() {
    let emulator = start();
    emulator.faults().add("answer=409/SharingViolation on=GetFile".parse().unwrap());
    let answer = request(&emulator, "GET", "docs/f", &[], b"");
    assert_eq!((answer.status, answer.code()), (409, Some("SharingViolation")));
    assert!(answer.text().contains("<Code>SharingViolation</Code>"));
    assert_eq!(request(&emulator, "HEAD", "docs/f", &[], b"").status, 404, "another call");
}

#[test]
fn an_answer_is_lost_after_the_change_and_a_refusal_comes_before_it() {
    let emulator = start();
    emulator.write("docs", "old", b"x");
    let source = format!("{}/docs/old?{}", emulator.endpoint(), emulator.account_sas("rw", 60));
    let rename = |to: &str| {
        let headers = [("x-ms-file-rename-source", source.as_str())];
        request(&emulator, "PUT", &format!("docs/{to}?comp=rename"), &headers, b"")
    };
    emulator.faults().add(Rule::new(Fault::Refuse).on(Operation::RenameFile).times(1));
    let answer = rename("new");
    assert!(answer.ended && answer.head.is_empty());
    assert!(emulator.stat("docs", "old").is_some() && emulator.stat("docs", "new").is_none());
    emulator.faults().clear();
    emulator.faults().add(Rule::new(Fault::LoseAnswer).on(Operation::RenameFile).times(1));
    let answer = rename("new");
    assert!(answer.ended && answer.head.is_empty());
    assert!(emulator.stat("docs", "old").is_none() && emulator.stat("docs", "new").is_some());
    let answer = rename("new");
    assert_eq!((answer.status, answer.code()), (404, Some("ResourceNotFound")));
}

#[test]
fn a_body_is_cut_where_it_was_asked_for() {
    let emulator = start();
    emulator.write("docs", "f", &[7; 300_000]);
    emulator.faults().add(Rule::new(Fault::CutBody(100_001)).on(Operation::GetFile));
    let answer = request(&emulator, "GET", "docs/f", &[], b"");
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("300000")));
    assert!(answer.ended);
    assert_eq!(answer.body.len(), 100_001);
}

#[test]
fn a_stalled_body_says_nothing_more_and_does_not_end() {
    let emulator = start();
    emulator.write("docs", "f", &[7; 300_000]);
    emulator.faults().add(Rule::new(Fault::Stall(70_000)).on(Operation::GetFile).path("docs/f"));
    let answer = get_stalled(&emulator, "docs/f", 70_000);
    assert_eq!((answer.status, answer.body.len(), answer.ended), (200, 70_000, false));
    assert_eq!(request(&emulator, "HEAD", "docs/f", &[], b"").status, 200, "others are served");
}

#[test]
fn a_delay_holds_up_one_request_alone() {
    let emulator = start();
    emulator.write("docs", "f", b"x");
    let wait = Duration::from_millis(60);
    emulator.faults().add(Rule::new(Fault::DelayAnswer(wait)).on(Operation::GetFile).times(1));
    let begin = std::time::Instant::now();
    assert_eq!(request(&emulator, "GET", "docs/f", &[], b"").body, b"x");
    assert!(begin.elapsed() >= wait);
}

#[test]
fn a_clock_that_is_wrong_shows_in_dates_and_in_what_is_expired() {
    let emulator = start();
    let good =
        format!("/{}/docs?restype=share&{}", emulator.account(), emulator.account_sas("r", 600));
    assert_eq!(send(emulator.address(), "GET", &good, &[], b"").status, 200);
    emulator.set_clock_skew_seconds(3600);
    let answer = send(emulator.address(), "GET", &good, &[], b"");
    assert_eq!((answer.status, answer.code()), (403, Some("AuthenticationFailed")));
    emulator.set_clock_skew_seconds(0);
    let now = send(emulator.address(), "GET", &good, &[], b"");
    assert_ne!(answer.header("date").unwrap()[..22], now.header("date").unwrap()[..22]);
    assert_eq!(now.status, 200);
}

#[test]
fn what_an_smb_client_holds_open_is_in_the_way() {
    let emulator = start();
    emulator.write("docs", "d/f", b"12345");
    let handle = emulator.open_handle("docs", "d/f", Sharing { write: true, delete: false });
    let put = || request(&emulator, "PUT", "docs/d/f?comp=range", &RANGE, b"abcde");
    let delete = || request(&emulator, "DELETE", "docs/d/f", &[], b"");
    assert_eq!(put().status, 201);
    let answer = delete();
    assert_eq!((answer.status, answer.code()), (409, Some("SharingViolation")));
    let headers = [("x-ms-recursive", "true")];
    let listed = request(&emulator, "GET", "docs/d?comp=listhandles", &headers, b"").text();
    assert!(listed.contains(&format!("<HandleId>{handle}</HandleId><Path>d/f</Path>")), "{listed}");
    let headers = [("x-ms-handle-id", "*"), ("x-ms-recursive", "true")];
    let answer = request(&emulator, "PUT", "docs/d?comp=forceclosehandles", &headers, b"");
    assert_eq!(answer.header("x-ms-number-of-handles-closed"), Some("1"));
    assert!(!emulator.close_handle("docs", handle), "it was closed by force");
    let handle = emulator.open_handle("docs", "d/f", Sharing { write: false, delete: true });
    assert_eq!(put().code(), Some("SharingViolation"));
    assert!(emulator.close_handle("docs", handle));
    assert_eq!(delete().status, 202);
}

#[test]
fn faults_are_changed_over_http_where_that_is_wanted() {
    let emulator = Emulator::start(Config { control: true, ..Config::default() }).unwrap();
    let at = emulator.address();
    let added = send(at, "POST", "/-/faults", &[], b"refuse on=ListShares\nstall=1 on=GetFile\n");
    assert_eq!((added.status, &*added.text()), (201, "1\n2\n"));
    assert_eq!(send(at, "POST", "/-/faults", &[], b"explode").status, 400);
    assert!(request(&emulator, "GET", "?comp=list", &[], b"").ended);
    let listed = send(at, "GET", "/-/faults", &[], b"").text();
    assert_eq!(listed, "1: refuse on=ListShares (fired 1)\n2: stall=1 on=GetFile (fired 0)\n");
    assert_eq!(send(at, "DELETE", "/-/faults", &[], b"").status, 200);
    assert_eq!(request(&emulator, "GET", "?comp=list", &[], b"").status, 200);
    assert_eq!(send(at, "PUT", "/-/clock", &[], b"-3600").status, 200);
    assert_eq!(send(start().address(), "GET", "/-/faults", &[], b"").status, 400, "not wanted");
}
